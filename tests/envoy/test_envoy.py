import asyncio
import json
import re
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authority import Authority
from processor import Processor, running_processor
from real import needs_envoy, until
from wissel.config import load, parse
from wissel.demo.parts import EnvoyProcess, envoy_binary, free_port, running_envoy
from wissel.demo.upstream import Upstream, running_upstream
from wissel.envoy import PROCESSOR_CLUSTER, ClusterTLS, EnvoyPlan, Polled, UpstreamCluster, Watched, plan, render
from wissel.envoy.listener import anything_but, bootstrap
from wissel.envoy.plans import Probing
from wissel.errors import ConfigError, WorldError

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
MEBIBYTE = 1024 * 1024
EXAMPLE, COMMITTED = (Path(__file__).parents[2] / name for name in ("config/example.yaml", "envoy/envoy.yaml"))


def sample(**changes: Any) -> EnvoyPlan:
    start = EnvoyPlan(
        listen="127.0.0.1:10000",
        admin="127.0.0.1:9901",
        processors=("127.0.0.1:50051",),
        clusters=(UpstreamCluster("qwen", (("127.0.0.1:9001", 1),)),),
    )
    return replace(start, **changes)


# --- What is rendered --------------------------------------------------------------------------------------------


def test_a_plan_always_reads_the_same():
    assert render(sample()) == render(sample())


CONFIG = """
models: [{name: gpt-4o, cluster: openai}, {name: qwen, cluster: qwen, credential: {env: KEY}}]
entrypoints: [auto]
intent: {fallback: all, deadline_ms: 500}
routes: [{name: all, description: Anything, target: qwen}]
envoy:
  clusters:
    - {name: qwen, address: "10.0.0.7:8000"}
    - {name: openai, address: "api.openai.com:443", tls: true}
    - {name: inside, address: "10.0.0.8:443", tls: {sni: models.inside, ca: /etc/inside.pem}}
"""


def test_a_configuration_becomes_a_plan():
    planned = plan(parse(CONFIG))

    assert planned == EnvoyPlan(
        listen="127.0.0.1:10000",
        admin="127.0.0.1:9901",
        processors=("127.0.0.1:50051",),
        clusters=(
            UpstreamCluster("qwen", (("10.0.0.7:8000", 1),)),
            UpstreamCluster("openai", (("api.openai.com:443", 1),), ClusterTLS("api.openai.com")),
            UpstreamCluster("inside", (("10.0.0.8:443", 1),), ClusterTLS("models.inside", "/etc/inside.pem")),
        ),
        message_timeout=5.5,
    )


def test_the_bootstrap_in_the_repository_is_that_of_the_example():
    """If it is not: `wissel envoy --config config/example.yaml --output envoy/envoy.yaml`."""
    assert COMMITTED.read_text() == render(plan(load(EXAMPLE)))


def test_headers_that_callers_may_set_are_part_of_the_plan():
    access = "access: {allow_headers: [x-wissel-tenant], rules: [{id: all, effect: permit}]}\n"

    assert plan(parse(CONFIG + access)).allow_headers == ("x-wissel-tenant",)


def test_an_identity_that_envoy_verifies_is_forwarded():
    access = "access: {envoy_identity: {namespace: jwt}, rules: [{id: all, effect: permit}]}\n"

    assert plan(parse(CONFIG)).verified_namespace is None
    assert plan(parse(CONFIG + access)).verified_namespace == "jwt"


def test_without_its_section_there_is_nothing_to_plan():
    with pytest.raises(ConfigError, match="envoy: this section is missing"):
        plan(parse(CONFIG.split("envoy:", maxsplit=1)[0]))


def test_a_plan_needs_each_cluster_that_a_model_names():
    with pytest.raises(ConfigError, match=r'no cluster is named "openai"\n.*"qwen"'):
        plan(parse(CONFIG.split("envoy:", maxsplit=1)[0] + "envoy: {listen: '127.0.0.1:10000'}"))


def test_a_model_cannot_take_the_processors_cluster():
    taken = CONFIG.replace("inside", PROCESSOR_CLUSTER, 1)

    with pytest.raises(ConfigError, match=f'"{PROCESSOR_CLUSTER}" is wissel\'s own'):
        plan(parse(taken))


@pytest.mark.parametrize(
    ("address", "tls", "discovery"),
    [
        ("10.0.0.1:80", None, "STATIC"),
        ("[::1]:80", None, "STATIC"),
        ("vllm:8000", None, "STRICT_DNS"),
        ("api.openai.com:443", ClusterTLS("api.openai.com"), "LOGICAL_DNS"),
    ],
)
def test_names_are_looked_up_and_addresses_are_not(address: str, tls: ClusterTLS | None, discovery: str):
    rendered = yaml.safe_load(render(sample(clusters=(UpstreamCluster("one", ((address, 1),), tls),))))

    assert rendered["static_resources"]["clusters"][1]["type"] == discovery


@given(words=st.sets(st.text("ab-^.+", max_size=5), max_size=5), word=st.text("ab-^.+", max_size=6))
def test_a_pattern_foranything_but_some_words_matches_exactly_the_others(words: set[str], word: str):
    assert (re.fullmatch(anything_but(words), word) is None) == (word in words)


# --- What a real Envoy makes of it -------------------------------------------------------------------------------

PLANS = {
    "plain": sample(),
    "tls": sample(clusters=(UpstreamCluster("openai", (("api.openai.com:443", 1),), ClusterTLS("api.openai.com")),)),
    "tls to an address": sample(clusters=(UpstreamCluster("inside", (("10.0.0.1:443", 1),), ClusterTLS("10.0.0.1")),)),
    "unix": sample(processors=("unix:/run/wissel.sock",)),
    "several processors": sample(processors=("127.0.0.1:50051", "127.0.0.1:50052", "unix:/run/wissel.sock")),
    "names for processors": sample(processors=("wissel-0.wissel:50051", "127.0.0.1:50052")),
    "weird names": sample(
        clusters=tuple(UpstreamCluster(n, (("127.0.0.1:1", 1),)) for n in ("a b", "größe", "no", "1e3", "a: b"))
    ),
    "streamed bodies": sample(request_body_mode="FULL_DUPLEX_STREAMED", response_body_mode="STREAMED"),
    "a verified identity": sample(verified_namespace="envoy.filters.http.jwt_authn"),
    "clusters from a file": sample(discovery=Watched("/tmp/clusters.json")),
    "clusters over REST": sample(discovery=Polled("wissel.example:8081", 0.25)),
    "clusters over REST with TLS": sample(discovery=Polled("127.0.0.1:8081", 0.25, ClusterTLS("127.0.0.1"))),
    "health checks": sample(clusters=(UpstreamCluster("c", (("127.0.0.1:1", 1),), probing=Probing("/ok", 10, 2)),)),
    "allowed headers": sample(allow_headers=("x-wissel-tenant", "X-Wissel-Trace", "x-wissel-t")),
}


def validate(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [envoy_binary(), "--mode", "validate", "-c", "envoy.yaml", "--log-level", "warning"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@needs_envoy
@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_envoy_accepts_a_plan_without_a_warning(name: str, tmp_path: Path):
    (tmp_path / "envoy.yaml").write_text(render(PLANS[name]))
    Path("/tmp/clusters.json").touch()

    said = validate(tmp_path)

    assert (said.returncode, said.stdout.strip(), said.stderr) == (0, "configuration 'envoy.yaml' OK", "")


@needs_envoy
@pytest.mark.slow
def test_envoy_accepts_the_bootstrap_in_the_repository(tmp_path: Path):
    authority = Authority(tmp_path, "internal").file
    (tmp_path / "envoy.yaml").write_text(COMMITTED.read_text().replace("/etc/ssl/internal-ca.pem", authority))

    assert validate(tmp_path).stderr == ""


@pytest.fixture
async def stack() -> AsyncGenerator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def test_several_servers_share_a_cluster_by_their_weights():
    servers = ("10.0.0.1:80", 3), ("models.inside:80", 1)
    (_, cluster, _) = bootstrap(sample(clusters=(UpstreamCluster("c", servers),)))["static_resources"]["clusters"]
    told = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]

    assert [(each["endpoint"]["hostname"], each["load_balancing_weight"]) for each in told] == list(servers)
    assert cluster["type"] == "STRICT_DNS"


@pytest.fixture
async def upstream(stack: AsyncExitStack) -> Upstream:
    return await stack.enter_async_context(running_upstream(Upstream("qwen")))


@pytest.fixture
async def processor(stack: AsyncExitStack) -> Processor:
    return await stack.enter_async_context(running_processor(Processor("qwen")))


Start = Callable[..., Awaitable[EnvoyProcess]]


@pytest.fixture
def start(stack: AsyncExitStack, upstream: Upstream, processor: Processor, tmp_path: Path) -> Start:
    """Envoy before the one processor and the one upstream, unless the test says otherwise."""

    async def start(**changes: Any) -> EnvoyProcess:
        around = sample(
            listen=f"127.0.0.1:{free_port()}",
            admin=f"127.0.0.1:{free_port()}",
            processors=(processor.address,),
            clusters=(UpstreamCluster("qwen", ((upstream.address, 1),)),),
        )
        return await stack.enter_async_context(running_envoy(replace(around, **changes), tmp_path, concurrency=1))

    return start


async def ask(
    envoy: EnvoyProcess, body: Any = CHAT, *, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    raw = BytesIO(json.dumps(body).encode())  # aiohttp warns of long bytes
    async with aiohttp.ClientSession() as session, session.post(envoy.url + path, data=raw, headers=headers) as answer:
        return answer.status, await answer.json()


async def logged(envoy: EnvoyProcess) -> dict[str, Any]:
    """The first line of the access log, once it is there."""
    await until(envoy.accesses)
    return envoy.accesses()[0]


@needs_envoy
@pytest.mark.slow
class TestTheWayOfARequest:
    async def test_the_answer_to_the_body_chooses_the_cluster_and_changes_the_body(
        self, start: Start, upstream: Upstream
    ):
        envoy = await start()

        status, answer = await ask(envoy, headers={"authorization": "Bearer of the caller"})

        [request] = upstream.requests
        assert (status, answer["served_by"]) == (200, "qwen")
        assert request.json == {**CHAT, "model": "the-model-that-serves"}
        assert request.headers["content-length"] == str(len(request.body))
        assert "authorization" not in request.headers

    async def test_the_upstream_is_called_by_its_own_name(self, start: Start, upstream: Upstream):
        envoy = await start()

        await ask(envoy)

        assert upstream.requests[0].headers["host"] == upstream.address

    async def test_callers_cannot_bring_our_headers(self, start: Start, upstream: Upstream, processor: Processor):
        envoy = await start(allow_headers=("x-wissel-tenant",))
        ours = {"x-wissel-cluster": "evil", "X-Wissel-Tenants": "evil", "x_wissel_model": "evil"}
        theirs = {"x-envoy-upstream-rq-timeout-ms": "1", "x-wissel-tenant": "kept", "x-session-id": "kept"}

        await ask(envoy, headers=ours | theirs)

        seen = processor.headers() | {k.lower(): v for k, v in upstream.requests[0].headers.items()}
        assert {key for key, value in seen.items() if value == "kept"} == {"x-wissel-tenant", "x-session-id"}
        assert {"evil", "1"}.isdisjoint(processor.headers().values())
        assert {"evil", "1"}.isdisjoint(upstream.requests[0].headers.values())

    async def test_the_processor_decides_on_the_path_that_the_upstream_gets(
        self, start: Start, upstream: Upstream, processor: Processor
    ):
        envoy = await start()

        # Not aiohttp: it would tidy the path itself.
        _, writer = await asyncio.open_connection(*envoy.plan.listen.split(":"))
        writer.write(b"GET /v1/files/..%2f..//admin?q HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: upstream.requests)
        writer.close()

        assert (processor.headers()[":path"], upstream.requests[0].path) == ("/admin?q", "/admin?q")

    async def test_a_body_of_just_less_than_the_limit_passes(self, start: Start, upstream: Upstream):
        envoy = await start(max_body_bytes=32 * MEBIBYTE)
        long = {**CHAT, "padding": "x" * (31 * MEBIBYTE)}

        status, _ = await ask(envoy, long)

        assert (status, upstream.requests[0].json["padding"]) == (200, long["padding"])

    async def test_a_body_that_the_processor_waives_goes_past_it(
        self, start: Start, upstream: Upstream, processor: Processor
    ):
        envoy = await start()
        processor.request_mode = {"request_body_mode": "NONE"}

        await ask(envoy)

        assert upstream.requests[0].json == CHAT
        assert [m.WhichOneof("request") for m in processor.seen] == ["request_headers", "response_headers"]

    async def test_events_come_one_by_one_with_the_processor_looking_on(
        self, start: Start, upstream: Upstream, processor: Processor
    ):
        envoy = await start()
        upstream.behaviour.event_gap = 0.05
        processor.response_mode = {"request_body_mode": "BUFFERED", "response_body_mode": "STREAMED"}
        url = f"{envoy.url}/v1/chat/completions"

        async with aiohttp.ClientSession() as session, session.post(url, json={**CHAT, "stream": True}) as answer:
            first = await anext(answer.content.iter_any())
            rest = [piece async for piece in answer.content.iter_any()]

        chunks = [m.response_body.body for m in processor.seen if m.WhichOneof("request") == "response_body"]
        assert len(rest) > 5
        assert b"".join(chunks) == first + b"".join(rest)

    async def test_an_override_that_is_not_listed_changes_nothing(self, start: Start, processor: Processor):
        envoy = await start()
        processor.response_mode = {"request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED"}

        await ask(envoy)

        assert "response_body" not in {m.WhichOneof("request") for m in processor.seen}

    async def test_the_processor_may_listen_on_a_unix_socket(self, start: Start, stack: AsyncExitStack, tmp_path: Path):
        address = f"unix:{tmp_path}/p"
        await stack.enter_async_context(running_processor(Processor("qwen"), address))
        envoy = await start(processors=(address,))

        assert (await ask(envoy))[0] == 200

    async def test_a_request_that_one_processor_refuses_to_begin_goes_to_another(
        self, start: Start, stack: AsyncExitStack, processor: Processor
    ):
        refusing = Processor("qwen", misbehave="unavailable")
        await stack.enter_async_context(running_processor(refusing))
        envoy = await start(processors=(refusing.address, processor.address))

        statuses = [(await ask(envoy))[0] for _ in range(30)]

        stats = await envoy.stats(f"cluster.{PROCESSOR_CLUSTER}.upstream_rq_retry_success")
        assert statuses == [200] * 30
        assert sum(stats.values()) > 0

    async def test_a_processor_that_comes_late_is_found(self, start: Start, stack: AsyncExitStack):
        address = f"127.0.0.1:{free_port()}"
        envoy = await start(processors=(address,))
        before = (await ask(envoy))[0]

        await stack.enter_async_context(running_processor(Processor("qwen"), address))
        await asyncio.sleep(2)  # two of Envoy's health checks
        after = (await ask(envoy))[0]

        assert (before, after) == (503, 200)


@needs_envoy
@pytest.mark.slow
class TestWhatWasNotDecidedGoesNowhere:
    AWAY = ("server_error", "gateway_unavailable")

    async def test_without_a_processor_requests_are_refused(self, start: Start, upstream: Upstream):
        envoy = await start(processors=(f"127.0.0.1:{free_port()}",))

        status, answer = await ask(envoy, headers={"x-wissel-cluster": "qwen"})

        assert (status, answer["error"]["type"], answer["error"]["code"]) == (503, *self.AWAY)
        assert not upstream.requests

    @pytest.mark.parametrize("misbehave", ["hang up", "unavailable", "forbidden mutation"])
    async def test_a_processor_that_fails_lets_nothing_through(
        self, start: Start, upstream: Upstream, processor: Processor, misbehave: str
    ):
        envoy = await start()
        processor.misbehave = misbehave

        status, answer = await ask(envoy, headers={"x-wissel-cluster": "qwen"})

        assert (status, answer["error"]["type"], answer["error"]["code"]) == (503, *self.AWAY)
        assert not upstream.requests

    async def test_a_processor_that_is_late_lets_nothing_through(
        self, start: Start, upstream: Upstream, processor: Processor
    ):
        envoy = await start(message_timeout=0.3)
        processor.misbehave = "late"

        status, answer = await ask(envoy)

        assert (status, answer["error"]["code"]) == (504, "timeout")
        assert not upstream.requests

    async def test_a_cluster_that_envoy_does_not_have_is_no_way(self, start: Start, processor: Processor):
        envoy = await start()
        processor.cluster = "nowhere"

        status, answer = await ask(envoy)

        assert (status, answer["error"]["code"]) == (503, "gateway_unavailable")
        assert processor.attributes("response_headers")["response.code_details"] == "cluster_not_found"

    async def test_an_upgrade_is_refused(self, start: Start, processor: Processor):
        envoy = await start()
        upgrade = {"connection": "upgrade", "upgrade": "websocket"}

        async with aiohttp.ClientSession() as session, session.get(envoy.url, headers=upgrade) as answer:
            refused = answer.status, (await answer.json())["error"]["code"]

        assert refused == (426, "upgrade_not_supported")
        assert [m.WhichOneof("request") for m in processor.seen] == ["response_headers"]


@needs_envoy
@pytest.mark.slow
class TestWhatEnvoySaysItself:
    async def test_a_refusal_of_the_processor_arrives_as_it_was_written(self, start: Start, processor: Processor):
        envoy = await start()
        processor.misbehave = "refuse"

        assert await ask(envoy) == (403, {"error": "ours"})

    async def test_a_body_over_the_limit_is_an_openai_error(self, start: Start, upstream: Upstream):
        envoy = await start()

        status, answer = await ask(envoy, {**CHAT, "padding": "x" * (40 * MEBIBYTE)})

        message = "the request body is larger than the 32 MiB that this gateway takes"
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": "request_too_large"}
        assert (status, answer, len(upstream.requests)) == (413, {"error": error}, 0)

    async def test_an_upstream_that_is_away_is_told_apart_and_not_described(self, start: Start, processor: Processor):
        envoy = await start(clusters=(UpstreamCluster("qwen", ((f"127.0.0.1:{free_port()}", 1),)),))

        status, answer = await ask(envoy)

        message = "the model's server could not be reached"
        error = {"message": message, "type": "server_error", "param": None, "code": "upstream_unavailable"}
        details = processor.attributes("response_headers")["response.code_details"]
        assert (status, answer) == (503, {"error": error})
        assert details.startswith("upstream_reset_before_response_started")

    async def test_an_upstreams_own_error_passes_untouched(
        self, start: Start, upstream: Upstream, processor: Processor
    ):
        envoy = await start()
        upstream.behaviour.error_rate = 1.0

        status, answer = await ask(envoy)

        assert (status, answer["error"]["message"]) == (500, "qwen fails as it was asked to")
        assert processor.attributes("response_headers")["response.code_details"] == "via_upstream"

    async def test_the_processor_is_told_where_a_request_comes_from(self, start: Start, processor: Processor):
        envoy = await start()

        await ask(envoy)

        attributes = processor.attributes("request_headers")
        assert attributes["connection.mtls"] is False
        assert attributes["source.address"].startswith("127.0.0.1:")

    async def test_the_access_log_tells_the_decision(self, start: Start):
        envoy = await start()

        await ask(envoy, path="/v1/chat/completions?key=secret")

        line = await logged(envoy)
        assert (line["path"], line["status"], line["cluster"]) == ("/v1/chat/completions", 200, "qwen")
        assert (line["wissel"]["route"], line["wissel"]["cost_usd"]) == ("coding", 0.25)
        assert "secret" not in json.dumps(line)


# --- TLS to the upstream -----------------------------------------------------------------------------------------


@needs_envoy
@pytest.mark.slow
@pytest.mark.parametrize(
    ("certified", "expected", "trusted", "status"),
    [
        ({"name": "models.test"}, "models.test", "good", 200),
        ({"name": "*.test"}, "models.test", "good", 200),
        ({"address": "127.0.0.1"}, "127.0.0.1", "good", 200),
        ({"name": "models.test"}, "models.test", "other", 503),
        ({"name": "other.test"}, "models.test", "good", 503),
        ({"name": "models.test"}, "127.0.0.1", "good", 503),
    ],
)
async def test_an_upstream_is_believed_only_with_a_certificate_for_its_name_of_a_known_authority(
    start: Start,
    stack: AsyncExitStack,
    tmp_path: Path,
    certified: dict[str, str],
    expected: str,
    trusted: str,
    status: int,
):
    authorities = {name: Authority(tmp_path, name) for name in ("good", "other")}
    context = authorities["good"].server(**certified)
    secured = await stack.enter_async_context(running_upstream(Upstream("secured"), tls=context))
    cluster = UpstreamCluster("qwen", ((secured.address, 1),), ClusterTLS(expected, authorities[trusted].file))
    envoy = await start(clusters=(cluster,))

    answered, _ = await ask(envoy)

    hosts = [request.headers["host"] for request in secured.requests]
    assert (answered, hosts) == (status, [expected] if status == 200 else [])


@needs_envoy
@pytest.mark.slow
async def test_an_envoy_that_cannot_start_says_why(tmp_path: Path, upstream: Upstream):
    taken = sample(listen=upstream.address, admin=f"127.0.0.1:{free_port()}")

    with pytest.raises(WorldError, match=r"(?s)ended with 1.*(in use|cannot bind)"):
        async with running_envoy(taken, tmp_path):
            pass
