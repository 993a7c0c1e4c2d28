"""Files beside the configuration change under a process that serves, and it is looked at from outside."""

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from authority import Authority
from wissel.core.snapshot import Snapshot
from wissel.demo.parts import free_port
from wissel.serving.app import App, running_app

pytestmark = pytest.mark.slow

WITHIN = 2.0
"""Seconds in which a change has to be met."""

LOOPBACK = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
CLIENT = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://mesh/envoy")])


def issue(authority: Authority, name: str, extension: x509.SubjectAlternativeName) -> Path:
    return Path(authority.issued(name, x509.Name([]), extension))


def issued_pair(authority: Authority) -> bytes:
    """Of a server."""
    return issue(authority, "pair", LOOPBACK).read_bytes()


@asynccontextmanager
async def serving(home: Path, text: str, listen: str = "") -> AsyncGenerator[App]:
    path = home / "wissel.yaml"
    ends = f"ext_proc: '127.0.0.1:{free_port()}', admin: '127.0.0.1:{free_port()}'"
    path.write_text(f"{text}\nlisten: {{{ends}{listen}}}\n")
    async with running_app(path, data=home, grace=0.1) as app:
        yield app


async def meets(condition: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it comes true soon enough; a machine that is busy with other tests gets the time twice."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 2 * WITHIN
    while not (met := await condition()) and loop.time() < end:  # noqa: ASYNC110  # it is looked at from outside
        await asyncio.sleep(0.05)
    return met


async def get(url: str, token: str = "", context: ssl.SSLContext | None = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(ssl=context) if context else None
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url, headers=headers) as response:
        return response.status, await response.json()


def credential(snapshot: Snapshot) -> str | None:
    found = snapshot.models["m"].credential
    return found.secret if found else None


async def test_a_token_that_was_rotated_out_stops_being_valid(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("old\n")
    text = f"models: [{{name: m, cluster: c}}]\nadmin: {{token: {{file: {token}}}}}"
    async with serving(tmp_path, text) as app:
        url = f"http://{app.admin}/v1/config"
        before = (await get(url, "old"))[0], (await get(url, "new"))[0]
        token.write_text("new\n")

        async def is_rotated() -> bool:
            return ((await get(url, "old"))[0], (await get(url, "new"))[0]) == (401, 200)

        assert (before, await meets(is_rotated)) == ((200, 401), True)


async def test_a_token_is_rotated_while_the_document_has_a_mistake(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("old\n")
    text = f"models: [{{name: m, cluster: c}}]\nadmin: {{token: {{file: {token}}}}}"
    async with serving(tmp_path, text) as app:
        (tmp_path / "wissel.yaml").write_text("models: [")
        token.write_text("new\n")

        async def is_rotated() -> bool:
            return (await get(f"http://{app.admin}/v1/config", "new"))[0] == 200 and app.problem is not None

        assert await meets(is_rotated)


async def test_a_secret_that_came_late_ends_the_refusal(tmp_path: Path):
    text = "models: [{name: m, cluster: c}]"
    async with serving(tmp_path, text) as app:
        path = tmp_path / "wissel.yaml"
        path.write_text(path.read_text().replace("cluster: c", f"cluster: c, credential: {{file: {tmp_path}/late}}"))

        async def is_refused() -> bool:
            return "cannot be read" in ((await get(f"http://{app.admin}/readyz"))[1]["config_problem"] or "")

        async def is_used() -> bool:
            return credential(app.router.snapshot) == "sk" and app.problem is None

        refused = await meets(is_refused)
        (tmp_path / "late").write_text("sk")

        assert (refused, await meets(is_used)) == (True, True)


async def test_a_redis_that_moved_asks_for_a_restart(tmp_path: Path):
    async with serving(tmp_path, "models: [{name: m, cluster: c}]") as app:
        path = tmp_path / "wissel.yaml"
        path.write_text(path.read_text() + f"redis: {{url: {{file: {tmp_path}/url}}}}\n")
        (tmp_path / "url").write_text("redis://:hidden@127.0.0.1:1")

        async def is_told() -> bool:
            return (await get(f"http://{app.admin}/readyz"))[1]["restart_needed"] == "redis"

        assert await meets(is_told)


async def test_rules_for_another_address_are_not_taken_by_this_one(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("t0ken")
    text = f"models: [{{name: m, cluster: c}}]\nadmin: {{token: {{file: {token}}}}}"
    async with serving(tmp_path, text) as app:
        path = tmp_path / "wissel.yaml"
        moved = f"listen: {{ext_proc: '{app.ext_proc}', admin: '127.0.0.1:{free_port()}'}}"
        path.write_text(f"models: [{{name: m, cluster: c}}]\n{moved}\n")

        async def is_told() -> bool:
            return app.restart_needed == "listen.admin"

        assert (await meets(is_told), (await get(f"http://{app.admin}/v1/config"))[0]) == (True, 401)


async def test_keys_of_an_issuer_are_read_again_when_their_file_changes(tmp_path: Path):
    path = tmp_path / "jwks.json"
    old, new = (rsa.generate_private_key(65537, 2048) for _ in range(2))

    def write(kid: str, key: rsa.RSAPrivateKey) -> None:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
        path.write_text(json.dumps({"keys": [{**public, "kid": kid, "alg": "RS256", "use": "sig"}]}))

    def signed(kid: str, key: rsa.RSAPrivateKey) -> str:
        claims = {"iss": "https://id", "aud": "w", "sub": "ada", "exp": 2**33}
        return jwt.encode(claims, key, "RS256", headers={"kid": kid})

    write("one", old)
    issuer = f"{{issuer: 'https://id', audience: [w], jwks: {path}}}"
    access = f"access: {{jwt: [{issuer}], rules: [{{id: all, effect: permit}}]}}"
    async with serving(tmp_path, f"models: [{{name: m, cluster: c}}]\n{access}") as app:

        def is_known(token: str) -> bool:
            tokens = app.router.advisers.tokens
            return tokens is not None and not isinstance(tokens.verify(token), str)

        async def are_rotated() -> bool:
            return (is_known(signed("one", old)), is_known(signed("two", new))) == (False, True)

        async def is_told() -> bool:
            return "is no JWK set" in (app.problem or "")

        before = is_known(signed("one", old))
        write("two", new)
        rotated = await meets(are_rotated)
        path.write_text('{"keys": [')

        assert (before, rotated, await meets(is_told), is_known(signed("two", new))) == (True, True, True, True)


PING, PONGED = b"\0\0\x08\x06\0\0\0\0\0" + b"12345678", b"12345678"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
CALL, CALLED = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", b'"ok"'


class Peer:
    """Connected to a listener, and asks it something that is answered by its protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: bytes, end: bytes) -> None:
        self.reader, self.writer, self.question, self.end = reader, writer, question, end

    async def is_answered(self) -> bool:
        self.writer.write(self.question)
        answer = b""
        while self.end not in answer:
            if not (got := await self.reader.read(4096)):
                return False
            answer += got
        return True


@dataclass
class Rotation:
    """A listener behind TLS whose files change."""

    home: Path
    is_admin: bool

    def __post_init__(self) -> None:
        self.old, self.new = Authority(self.home, "old"), Authority(self.home, "new")
        self.files = {name: self.home / name for name in ("cert", "key", "client_ca")}
        self.write(self.old)

    def trust(self, authority: Authority) -> None:
        self.files["client_ca"].write_bytes(Path(authority.file).read_bytes())

    def write(self, authority: Authority) -> None:
        pair = issued_pair(authority)
        self.files["cert"].write_bytes(pair)
        self.files["key"].write_bytes(pair)
        self.trust(authority)

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[App]:
        tls = "tls: {" + ", ".join(f"{name}: {path}" for name, path in self.files.items())
        admin = f"admin: {{{tls}, viewers: ['*']}}}}" if self.is_admin else ""
        listen = "" if self.is_admin else f", {tls}}}"
        async with serving(self.home, f"models: [{{name: m, cluster: c}}]\n{admin}", listen) as app:
            yield app

    async def connect(self, app: App, server: Authority, client: Authority) -> Peer:
        """As one who trusts `server` and is signed by `client`."""
        context = ssl.create_default_context(cafile=server.file)
        context.load_cert_chain(issue(client, "client", CLIENT))
        host, port = (app.admin if self.is_admin else app.ext_proc).rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        if self.is_admin:
            return Peer(reader, writer, CALL, CALLED)
        writer.write(PREFACE)
        return Peer(reader, writer, PING, PONGED)

    async def serves(self, app: App, server: Authority, client: Authority) -> bool:
        try:
            peer = await self.connect(app, server, client)
            answered = await peer.is_answered()
            peer.writer.close()
        except OSError:
            return False
        return answered


@pytest.fixture(params=["processor", "admin"])
def rotation(request: pytest.FixtureRequest, tmp_path: Path) -> Rotation:
    return Rotation(tmp_path, request.param == "admin")


async def test_who_connects_meets_the_new_certificates_and_who_is_connected_stays(rotation: Rotation):
    old, new = rotation.old, rotation.new
    async with rotation.serving() as app:
        peer = await rotation.connect(app, old, old)
        before = await peer.is_answered()
        rotation.write(new)
        rotated = await meets(lambda: rotation.serves(app, new, new))

        assert (before, rotated, await peer.is_answered()) == (True, True, True)


async def test_a_client_authority_that_was_rotated_out_is_not_trusted(rotation: Rotation):
    old, new = rotation.old, rotation.new
    async with rotation.serving() as app:
        trusted = await rotation.serves(app, old, old)
        rotation.trust(new)
        rotated = await meets(lambda: rotation.serves(app, old, new))

        assert (trusted, rotated, await rotation.serves(app, old, old)) == (True, True, False)


async def test_of_a_pair_that_is_half_written_the_last_good_one_serves_and_it_is_told(rotation: Rotation):
    old, new = rotation.old, rotation.new
    async with rotation.serving() as app:
        whole = issued_pair(new)
        rotation.files["cert"].write_bytes(whole)
        rotation.files["key"].write_bytes(whole[: len(whole) // 3])

        async def is_told() -> bool:
            return "tls: cannot use" in (app.problem or "") and app.revision().is_refused

        async def is_mended() -> bool:
            return app.problem is None and await rotation.serves(app, new, old)

        told, kept = await meets(is_told), await rotation.serves(app, old, old)
        rotation.files["key"].write_bytes(whole)

        assert (told, kept, await meets(is_mended)) == (True, True, True)


async def test_a_bad_certificate_keeps_no_token_valid(tmp_path: Path):
    authority, token = Authority(tmp_path, "ours"), tmp_path / "token"
    pair = issue(authority, "pair", LOOPBACK)
    token.write_text("old")
    text = f"models: [{{name: m, cluster: c}}]\nadmin: {{token: {{file: {token}}}, tls: {{cert: {pair}, key: {pair}}}}}"
    context = ssl.create_default_context(cafile=authority.file)
    async with serving(tmp_path, text) as app:
        pair.write_text("half")
        token.write_text("new")

        async def is_rotated() -> bool:
            return (await get(f"https://{app.admin}/v1/config", "new", context))[0] == 200

        rotated = await meets(is_rotated)

        assert (rotated, (await get(f"https://{app.admin}/v1/config", "old", context))[0]) == (True, 401)
