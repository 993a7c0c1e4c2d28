"""The admin listener over real TLS: whose certificate is good for what."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from typer.testing import CliRunner

from authority import Authority
from wissel.admin.front import front
from wissel.admin.guard import Staff, guard, staff
from wissel.admin.listener import admin_context, listening
from wissel.admin.pages import Pages
from wissel.cli import app
from wissel.config import Config, parse
from wissel.errors import ConfigError

DEPLOYER = "spiffe://mesh/ns/ops/sa/deploy"
PROMOTE = "/v1/rollouts/chat/promote"


def common(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def alternative(name: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([name])


NO_NAME, PLAIN = x509.Name([]), x509.BasicConstraints(ca=False, path_length=None)
LOOPBACK = alternative(x509.IPAddress(ip_address("127.0.0.1")))
CERTIFICATES = {
    "deployer": (NO_NAME, alternative(x509.UniformResourceIdentifier(DEPLOYER))),
    "eve": (NO_NAME, alternative(x509.DNSName("dashboards.example"))),
    "by common name": (common("ops-laptop"), PLAIN),
    "named in the subject alone": (common("ops-laptop"), alternative(x509.DNSName("somewhere.example"))),
    "unknown": (common("intern"), PLAIN),
}


@dataclass
class Desk:
    """A listener behind TLS, and files to come with."""

    config: Config
    ours: Authority
    theirs: Authority
    url: str = ""

    def context(self, name: str | None, authority: Authority | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ours.file)
        if name is not None:
            context.load_cert_chain((authority or self.ours).issued(name, *CERTIFICATES[name]))
        return context

    async def ask(
        self,
        name: str | None,
        method: str = "GET",
        path: str = "/v1/rollouts",
        authority: Authority | None = None,
        **headers: str,
    ) -> int:
        connector = aiohttp.TCPConnector(ssl=self.context(name, authority))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(
                method,
                self.url + path,
                data=b"{}" if method == "POST" else None,
                headers={"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()},
            ) as response,
        ):
            assert "set-cookie" not in response.headers
            return response.status


def configured(folder: Path, ours: Authority, **more: str) -> Config:
    cert = ours.issued("server", NO_NAME, LOOPBACK)
    lines = {"cert": cert, "key": cert, "client_ca": ours.file, **more}
    tls = ", ".join(f"{name}: {value}" for name, value in lines.items())
    return parse(
        f"""
models: [{{name: m, cluster: c}}]
admin: {{tls: {{{tls}, operators: ["{DEPLOYER}", ops-laptop], viewers: [dashboards.example]}}}}
"""
    )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    return Desk(configured(tmp_path, ours), ours, theirs)


async def answer(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path})


def answering(known: Staff) -> web.Application:
    application = web.Application(middlewares=[guard(lambda: known)])
    application.router.add_route("*", "/{path:.*}", answer)
    return application


@pytest.fixture
async def served(desk: Desk) -> AsyncIterator[Desk]:
    async with listening(answering(staff(desk.config)), "127.0.0.1:0", admin_context(desk.config.admin.tls)) as open_:
        desk.url = f"https://{open_.address}"
        yield desk


@pytest.mark.parametrize(
    ("name", "method", "path", "status"),
    [
        ("deployer", "POST", PROMOTE, 200),
        ("by common name", "POST", PROMOTE, 200),
        ("eve", "GET", "/v1/rollouts", 200),
        ("eve", "POST", "/v1/route", 200),
        ("eve", "POST", PROMOTE, 403),
        ("unknown", "GET", "/v1/rollouts", 403),
        ("named in the subject alone", "GET", "/v1/rollouts", 403),
        (None, "GET", "/v1/rollouts", 403),
        (None, "GET", "/readyz", 200),
    ],
)
async def test_a_certificate_is_good_for_what_its_name_may_do(
    served: Desk, name: str | None, method: str, path: str, status: int
):
    assert await served.ask(name, method, path) == status


async def test_a_certificate_of_another_authority_is_no_certificate(served: Desk):
    with pytest.raises(aiohttp.ClientError):
        await served.ask("deployer", authority=served.theirs)


async def test_plain_text_is_not_spoken(served: Desk):
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(served.url.replace("https", "http") + "/readyz")


async def test_a_page_cannot_have_a_certificate_change_anything(served: Desk):
    """A browser shows it unasked, with forms that a page of any origin may send."""
    assert await served.ask("deployer", "POST", PROMOTE, content_type="text/plain") == 415
    assert await served.ask("deployer", "POST", PROMOTE, content_type="application/x-www-form-urlencoded") == 415
    assert await served.ask("deployer", "POST", PROMOTE, origin="https://evil") == 403
    assert await served.ask(None, "OPTIONS", PROMOTE) == 403


async def test_a_token_serves_who_has_no_certificate(desk: Desk):
    known = Staff("t0ken", None, *(staff(desk.config).operators, staff(desk.config).viewers))
    async with listening(answering(known), "127.0.0.1:0", admin_context(desk.config.admin.tls)) as open_:
        desk.url = f"https://{open_.address}"

        assert await desk.ask(None, "POST", PROMOTE, authorization="Bearer t0ken") == 200
        assert await desk.ask(None, "POST", PROMOTE, authorization="Bearer t0ke") == 401
        assert await desk.ask("deployer", "POST", PROMOTE) == 200


async def test_the_common_front_of_several_workers_asks_for_certificates_too(desk: Desk):
    before = front([], Pages(), lambda: staff(desk.config))
    async with listening(before, "127.0.0.1:0", admin_context(desk.config.admin.tls)) as open_:
        desk.url = f"https://{open_.address}"

        assert await desk.ask("eve", "POST", PROMOTE) == 403
        assert await desk.ask(None) == 403
        # It would be passed on, and there is no worker.
        assert await desk.ask("deployer", "POST", PROMOTE) == 503


async def test_a_command_comes_with_a_certificate(served: Desk, monkeypatch: pytest.MonkeyPatch):
    async def command(*words: str, **environment: str) -> tuple[int, str]:
        found = await asyncio.to_thread(
            CliRunner().invoke, app, [*words, "--admin", served.url, "--json"], env=environment
        )
        return found.exit_code, found.output

    mine = {
        "WISSEL_ADMIN_CA": served.ours.file,
        "WISSEL_ADMIN_CERT": served.ours.issued("deployer", *CERTIFICATES["deployer"]),
    }
    hers = {**mine, "WISSEL_ADMIN_CERT": served.ours.issued("eve", *CERTIFICATES["eve"])}

    status, told = await command("rollout", "promote", "chat", **mine)
    assert (status, PROMOTE in told) == (0, True)
    status, told = await command("rollout", "promote", "chat", **hers)
    assert (status, "a viewer may not change anything" in told) == (1, True)
    status, told = await command("rollout", "list", WISSEL_ADMIN_CA=served.ours.file)
    assert (status, "show a client certificate" in told) == (1, True)
    status, told = await command("rollout", "list", WISSEL_ADMIN_CA=served.theirs.file)
    assert (status, "CERTIFICATE_VERIFY_FAILED" in told) == (1, True)
    status, told = await command("rollout", "list", **{**mine, "WISSEL_ADMIN_CERT": "/nowhere.pem"})
    assert (status, 'WISSEL_ADMIN_CERT: cannot use "/nowhere.pem"' in told) == (2, True)
    status, told = await command("rollout", "list", WISSEL_ADMIN_KEY="/nowhere.pem")
    assert (status, "WISSEL_ADMIN_KEY: it belongs to a certificate" in told) == (2, True)


def test_files_that_cannot_be_used_are_the_operators(tmp_path: Path):
    ours = Authority(tmp_path, "ours")
    (tmp_path / "empty").touch()
    for more, complaint in (
        ({"cert": "/nowhere.pem"}, "admin.tls: cannot use"),
        ({"client_ca": str(tmp_path / "empty")}, "admin.tls.client_ca: cannot use"),
    ):
        config = configured(tmp_path, ours, **more)
        with pytest.raises(ConfigError, match=complaint):
            admin_context(config.admin.tls)


@pytest.mark.parametrize("tls", ["client_ca: ca.pem", "operators: [ops]", 'viewers: ["*"]'])
def test_an_authority_and_the_names_that_it_signs_come_together(tls: str):
    with pytest.raises(ConfigError, match="come together"):
        parse(f"models: [{{name: m, cluster: c}}]\nadmin: {{tls: {{cert: a, key: b, {tls}}}}}")


def test_beyond_loopback_certificates_are_enough():
    head = "models: [{name: m, cluster: c}]\nlisten: {admin: '0.0.0.0:8081'}\n"
    guarded = "admin: {tls: {cert: a, key: b, client_ca: c, operators: [ops]}}"

    assert parse(head + guarded).admin.token is None
    with pytest.raises(ConfigError, match=r"admin\.token or admin\.tls\.client_ca is required"):
        parse(head + "admin: {tls: {cert: a, key: b}}")
