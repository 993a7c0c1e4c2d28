"""Identity x path x naming x rule through a real Envoy: no combination of them is a way around.

One model is kept in a vault, a cluster of its own, so whatever arrives there
has passed. Each request says which combination it is; the oracle below is
written without the code that it judges.
"""

import asyncio
import io
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from yarl import URL

from real import needs_encoder, needs_envoy, needs_redis
from sampling import IS_WHOLE
from signers import FORGER, SIGNER
from wissel.admin.listener import listening
from wissel.core.access import Principal
from wissel.demo.stage import Stage, running_stage
from wissel.store.connection import RedisConnection
from wissel.store.embedded import joined_redis
from wissel.store.keys import Keys
from wissel.store.managed_keys import ManagedKeys

pytestmark = [
    pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy, needs_encoder, needs_redis,
]  # fmt: skip

CANARY = "c4n4ry"
"""In every secret of this file; it must turn up nowhere."""

NAMES = ("eng", "sales", "intern", "batch", "night", "pathy", "guest", "shadowed", "star")


def secret_of(name: str) -> str:
    return f"{CANARY}-{name}"


def document(jwks: str, collector: str) -> dict[str, Any]:
    groups = {"intern": ["staff", "interns"], "guest": ["guests"]}
    return {
        "redis": "embedded",
        "telemetry": {"otlp": collector, "interval": "1s", "traces": {"sample": 1}},
        "models": [
            {"name": "secret", "cluster": "vault", "apis": ["chat", "completions", "messages"]},
            {"name": "open", "cluster": "street", "apis": ["chat", "completions", "messages"]},
        ],
        "passthrough": [
            {"path_prefix": "/v1/audio", "cluster": "studio"},
            {"path_prefix": "/v1/files", "cluster": "studio", "names_models": False},
        ],
        "entrypoints": ["auto"],
        "aliases": {"vip": "secret"},
        "intent": {"fallback": "talk", "deadline_ms": 5000},
        "splits": [{"name": "safe", "variants": [{"model": "secret", "weight": 1}]}],
        "routes": [{"name": "talk", "description": "anything at all", "target": "safe"}],
        "access": {
            "keys": [
                {"id": name, "sha256": sha256(secret_of(name).encode()).hexdigest(),
                 "groups": groups.get(name, ["staff"])}
                for name in NAMES
            ],
            "jwt": [{"issuer": "https://id", "audience": ["wissel"], "jwks": jwks, "algorithms": ["RS256"]}],
            "rules": [
                {"id": "staff", "effect": "permit", "groups": ["staff"]},
                {"id": "guests", "effect": "permit", "groups": ["guests"], "models": ["open"]},
                {"id": "no-sales", "effect": "forbid", "principals": ["sales", "jwt:bob"], "models": ["secret"]},
                {"id": "no-interns", "effect": "forbid", "groups": ["interns"], "models": ["secret"]},
                {"id": "no-batch", "effect": "forbid", "models": ["secret"],
                 "headers": {"x-client": {"prefix": "batch-"}}},
                {"id": "no-night", "effect": "forbid", "principals": ["night"], "models": ["secret"],
                 "when": {"since": "2020-01-01T00:00:00Z"}},
                {"id": "no-paths", "effect": "forbid", "principals": ["pathy"],
                 "paths": ["/v1/chat/*", "/v1/completions", "/v1/messages"]},
                {"id": "no-star", "effect": "forbid", "principals": ["star"], "models": ["*"]},
                {"id": "only-shown", "effect": "forbid", "principals": ["shadowed"], "shadow": True},
            ],
        },
    }  # fmt: skip


def token(key: rsa.RSAPrivateKey = SIGNER, **claims: Any) -> str:
    payload = {"iss": "https://id", "aud": "wissel", "sub": "ada", "groups": ["staff"], "exp": time.time() + 86_400}
    return jwt.encode({**payload, **claims, "note": CANARY}, key, "RS256", headers={"kid": "k"})


@dataclass(frozen=True)
class Who:
    """A caller, and what is right for it where nothing else is wrong with the request."""

    name: str
    credential: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()


def unsigned() -> str:
    head, payload, _ = token().split(".")
    head = jwt.utils.base64url_encode(b'{"alg":"none","kid":"k"}').decode()
    return f"{head}.{payload}."


WHO = [
    Who("eng", secret_of("eng"), 200),
    Who("shadowed", secret_of("shadowed"), 200),
    Who("jwt ada", token(), 200),
    Who("managed", "managed", 200),
    Who("sales", secret_of("sales"), 403),
    Who("intern", secret_of("intern"), 403),
    Who("batch", secret_of("batch"), 403, (("x-client", "batch-7"),)),
    Who("night", secret_of("night"), 403),
    Who("pathy", secret_of("pathy"), 403),
    Who("guest", secret_of("guest"), 403),
    Who("star", secret_of("star"), 403),
    Who("jwt bob", token(sub="bob"), 403),
    Who("sales in disguise", secret_of("sales"), 403, (("x-wissel-model", "open"), ("x-wissel-cluster", "vault"))),
    Who("nobody", "", 401),
    Who("wrong key", secret_of("eng") + "x", 401),
    Who("hash as key", sha256(secret_of("eng").encode()).hexdigest(), 401),
    Who("revoked", "revoked", 401),
    Who("expired", "expired", 401),
    Who("jwt none", unsigned(), 401),
    Who("jwt forged", token(FORGER), 401),
    Who("jwt late", token(exp=time.time() - 60), 401),
    Who("jwt elsewhere", token(aud="other"), 401),
]

CHAT = "/v1/chat/completions"
PATHS = {
    CHAT: None,
    "/v1/chat/completions/": None,
    "//v1//chat//completions": None,
    "/V1/Chat/COMPLETIONS": None,
    "/v1/chat%2Fcompletions": None,
    "/v1/chat/%63ompletions": None,
    "/v1/./chat/x/../completions": None,
    "/v1/chat/completions?api-version=1": None,
    "/v1/completions": None,
    "/v1/messages": None,
    "/v1/chat/completions?model=open": 400,
    "/v1/chat/completions?MODEL=open": 400,
    "/v1/chat/completions%3Fmodel=open": 404,
    "/v1/chat/completions;model=open": 404,
}
"""Spellings of calls, and the status that one has whoever asks; None where it is a call like any other."""

SAYS = b'"messages":[{"role":"user","content":"hello"}],"prompt":"hello","max_tokens":9'
NAMINGS = {
    "concrete": (b'{"model":"secret",%b}' % SAYS, None),
    "alias": (b'{"model":"vip",%b}' % SAYS, None),
    "split": (b'{"model":"safe",%b}' % SAYS, None),
    "entrypoint": (b'{"model":"auto",%b}' % SAYS, None),
    "escaped value": (b'{"model":"s\\u0065cret",%b}' % SAYS, None),
    "escaped name": (b'{"mod\\u0065l":"secret",%b}' % SAYS, None),
    "decoy inside": (b'{"x":{"model":"open"},"model":"secret",%b}' % SAYS, None),
    "decoy last": (b'{"model":"secret",%b,"Model":"open"}' % SAYS, 400),
    "twice": (b'{"model":"open","model":"secret",%b}' % SAYS, 400),
    "twice, escaped": (b'{"model":"open","mod\\u0065l":"secret",%b}' % SAYS, 400),
    "upper case": (b'{"model":"SECRET",%b}' % SAYS, 404),
    "spaces": (b'{"model":" secret",%b}' % SAYS, 404),
    "dated": (b'{"model":"secret-2024-07-18",%b}' % SAYS, 404),
    "byte-order mark": (b'\xef\xbb\xbf{"model":"secret",%b}' % SAYS, None),
    "behind a long text": (b'{"x":"%b","model":"secret",%b}' % (b"a\\n" * 15_000, SAYS), None),
    "twice, far apart": (b'{"model":"open","x":"%b","model":"secret",%b}' % (b"a" * 40_000, SAYS), 400),
    "a long integer": (b'{"n":%b,"model":"secret",%b}' % (b"9" * 5_000, SAYS), 400),
    "bad UTF-8": (b'{"x":"\xff","model":"secret",%b}' % SAYS, 400),
    "a second document": (b'{"model":"open",%b}{"model":"secret",%b}' % (SAYS, SAYS), 400),
    "nested deeply": (b'{"x":%b,"model":"secret",%b}' % (b"[" * 90 + b"]" * 90, SAYS), 400),
}
"""Ways to ask for the model in the vault, and the status that one has for every caller who is known."""


@dataclass(frozen=True)
class Combination:
    who: Who
    path: str
    naming: str

    @property
    def expected(self) -> int:
        wrong_path = PATHS[self.path]
        _, wrong_name = NAMINGS[self.naming]
        if wrong_path == 400:
            return 400
        if self.who.status == 401:
            return 401
        if wrong_path is not None:
            return wrong_path
        return wrong_name or self.who.status


EVERY = 1 if IS_WHOLE else 4
"""Of the combinations each fourth is a sample in which any two of caller, path and naming still meet."""
COMBINATIONS = [
    Combination(who, path, naming)
    for (a, who), (b, path), (c, naming) in product(enumerate(WHO), enumerate(PATHS), enumerate(NAMINGS))
    if (a + b + c) % EVERY == 0
]


@dataclass
class Scene:
    stage: Stage
    managed: dict[str, str]
    redis: str
    sent: list[bytes]
    """What wissel told the collector of traces and metrics."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory) -> AsyncIterator[Scene]:
    home = tmp_path_factory.mktemp("matrix")
    public = {**RSAAlgorithm.to_jwk(SIGNER.public_key(), as_dict=True), "kid": "k"}
    (home / "jwks.json").write_text(json.dumps({"keys": [public]}))
    sent: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        sent.append(request.path.encode() + await request.read())
        return web.Response()

    collector = web.Application(client_max_size=1 << 28)
    collector.router.add_post("/{path:.*}", collect)
    async with (
        listening(collector, "127.0.0.1:0") as listener,
        running_stage(document(str(home / "jwks.json"), f"http://{listener.address}"), home) as stage,
        joined_redis(home / "redis") as url,
    ):
        connection = RedisConnection(url)
        keys, staff = ManagedKeys(connection, Keys(stage.config.namespace)), frozenset({"staff"})
        made = {
            name: await keys.create(Principal(name, staff), by="test", now=time.time(), expires=ends)
            for name, ends in (("managed", None), ("revoked", None), ("expired", time.time() - 1))
        }
        await accepted(stage, made["revoked"][1])
        await keys.revoke(made["revoked"][0].key.id, by="test", reason="leaked")
        began = time.monotonic()
        await accepted(stage, made["revoked"][1], status=401)
        assert time.monotonic() - began < 2
        await connection.close()
        yield Scene(stage, {name: secret for name, (_, secret) in made.items()}, url, sent)


async def accepted(stage: Stage, secret: str, *, status: int = 200) -> None:
    """Wait until the key is taken, or no longer taken."""
    async with aiohttp.ClientSession() as session:
        for _ in range(100):
            headers = {"authorization": f"Bearer {secret}"}
            async with session.get(f"{stage.envoy.url}/v1/models", headers=headers) as response:
                if response.status == status:
                    return
            await asyncio.sleep(0.03)
    pytest.fail(f"the key is not answered with {status}")


async def ask(session: aiohttp.ClientSession, scene: Scene, each: Combination, tag: int) -> int:
    headers = {"x-tag": str(tag), "content-type": "application/json", **dict(each.who.headers)}
    if each.who.credential:
        name = "x-api-key" if tag % 3 == 0 else "authorization"
        secret = scene.managed.get(each.who.credential, each.who.credential)
        headers[name] = secret if name == "x-api-key" else f"Bearer {secret}"
    url = URL(scene.stage.envoy.url + each.path, encoded=True)
    body, _ = NAMINGS[each.naming]
    async with session.post(url, data=io.BytesIO(body), headers=headers) as response:
        await response.read()
        return response.status


async def test_no_combination_is_a_way_around(scene):
    vault = scene.stage.upstreams["vault"]
    vault.requests = deque()
    answers: dict[int, int] = {}
    waiting = iter(enumerate(COMBINATIONS))

    async def client(session: aiohttp.ClientSession) -> None:
        for tag, each in waiting:
            answers[tag] = await ask(session, scene, each, tag)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session:
        await asyncio.gather(*(client(session) for _ in range(16)))
    wrong = [
        (each.who.name, each.path, each.naming, answers[tag], each.expected)
        for tag, each in enumerate(COMBINATIONS)
        if answers[tag] != each.expected
    ]
    arrived = {int(request.headers["x-tag"]) for request in vault.requests}

    assert len(COMBINATIONS) * EVERY >= 6000
    assert wrong == []
    assert arrived == {tag for tag, each in enumerate(COMBINATIONS) if each.expected == 200}
    assert all(request.json["model"] == "secret" for request in vault.requests)


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = [b'--edge\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (n.encode(), v) for n, v in fields]
    return b"".join((*parts, b"--edge--\r\n"))


OPEN = 200
"""Only the other model is named, which nearly all who are known may use."""
JSON = "application/json"
MULTIPART, URLENCODED = "multipart/form-data; boundary=edge", "application/x-www-form-urlencoded"
FORMS: dict[str, tuple[str, bytes, str, int | None]] = {
    "named": (MULTIPART, form(("file", b"\0" * 9000), ("model", b"secret")), "", None),
    "alias": (MULTIPART, form(("model", b"vip"), ("file", b"\0")), "", None),
    "split": (MULTIPART, form(("model", b"safe")), "", None),
    "upper case": (MULTIPART, form(("MODEL", b"secret")), "", None),
    "twice": (MULTIPART, form(("model", b"open"), ("model", b"secret")), "", None),
    "query and form": (MULTIPART, form(("model", b"open")), "?model=secret", None),
    "spaces": (MULTIPART, form(("model", b" secret ")), "", None),
    "a field between lines": (MULTIPART, form(("x", b"\n--edge\nContent-Disposition: form-data; name=model\n\nsecret")),
                              "", 400),
    "no end": (MULTIPART, form(("model", b"secret"))[:-6], "", 400),
    "no boundary": ("multipart/form-data", form(("model", b"secret")), "", 400),
    "urlencoded": (URLENCODED, b"a=1&mod%65l=secret", "", None),
    "urlencoded twice": (URLENCODED, b"model=open&model=secret", "", None),
    "json": ("application/json", b'{"model":"open","mod\\u0065l":"secret"}', "", 400),
    "json as text": ("text/plain", b'{"model":"secret"}', "", None),
    "a session": (JSON, b'{"session":{"model":"secret"}}', "", None),
    "a session's transcription": (JSON, b'{"session":{"audio":{"input":{"transcription":{"model":"vip"}}}}}', "", None),
    "a form's session": (MULTIPART, form(("sdp", b"v=0"), ("session", b'{"model":"secret"}')), "", None),
    "a batch file": (MULTIPART, form(("purpose", b"batch"), ("file", b'{"model":"open"}\n{"body":{"model":"vip"}}')),
                     "", None),
    "lines": ("application/jsonl", b'{"body":{"model":"open"}}\n{"body":{"model":"secret"}}\n', "", None),
    "anthropic's batch": (JSON, b'{"requests":[{"params":{"model":"open"}},{"params":{"model":"secret"}}]}', "", None),
    "gemini's batch": (JSON, b'{"requests":[{"request":{"model":"secret"}}]}', "", None),
    "fallbacks": (JSON, b'{"model":"open","models":["open","secret"]}', "", None),
    "bedrock": (JSON, b'{"modelId":"secret"}', "", None),
    "an array": (JSON, b'[{"model":"open"},{"model":"secret"}]', "", None),
    "an object": (JSON, b'{"model":{"id":"secret"}}', "", None),
    "letter case": (JSON, b'{"model":"Secret"}', "", None),
    "blanks": (JSON, b'{"model":" secret "}', "", None),
    "dated": (JSON, b'{"model":"secret-2024-07-18"}', "", None),
    "a prefix": (JSON, b'{"model":"models/secret"}', "", None),
    "somewhere else": (JSON, b'{"options":{"engine":{"model":"secret"}}}', "", None),
    "a deployment": (JSON, b'{"model":"open"}', "/deployments/secret/chat", None),
    "a verb": (JSON, b'{"model":"open"}', "/models/secret:generateContent", None),
    "of bedrock's paths": (JSON, b"{}", "/model/secret/invoke", None),
    "query's model_id": (JSON, b'{"model":"open"}', "?model_id=secret", None),
    "a long integer": (JSON, b'{"n":%b,"model":"secret"}' % (b"9" * 5000), "", 400),
    "bad UTF-8": (JSON, b'{"model":"secret","x":"\xff"}', "", 400),
    "a second document": (JSON, b'{"model":"open"}{"model":"secret"}', "", 400),
    "json twice": (JSON, b'{"model":"open","model":"secret"}', "", 400),
    "UTF-16": (JSON, '{"model":"secret"}'.encode("utf-16"), "", 400),
    "a long integer, as text": ("text/plain", b'{"n":%b,"model":"secret"}' % (b"9" * 5000), "", None),
    "trailing text, as bytes": ("application/octet-stream", b'{"model":"secret"} x', "", None),
    "a second document, without a type": ("", b'{"model":"open"}{"model":"secret"}', "", None),
    "UTF-16 as text": ("text/plain", '{"model":"secret"}'.encode("utf-16"), "", None),
    "nothing named": (JSON, b'{"input":"hello"}', "", None),
    "no JSON": ("audio/mpeg", b"\xff\xfb\x90\x00ID3", "", None),
    "an epilogue": (MULTIPART, form(("model", b"secret")) + b"more", "", None),
    "a form behind a form": (MULTIPART, form(("model", b"open")) + form(("model", b"secret")), "", 400),
    "open": (JSON, b'{"model":"open"}', "", OPEN),
    "an open session": (MULTIPART, form(("session", b'{"model":"open"}')), "", OPEN),
    "an open deployment": (JSON, b'{"model":"open"}', "/deployments/open/chat", OPEN),
}  # fmt: skip
"""Forms to a passthrough that name the model in the vault; type, body, query, and a status for all who are known."""


async def test_no_form_is_a_way_around(scene):
    studio = scene.stage.upstreams["studio"]
    wrong: list[tuple[str, str, int]] = []
    allowed: list[str] = []
    async with aiohttp.ClientSession() as session:
        for who, (naming, (kind, body, query, status)) in product(WHO, FORMS.items()):
            headers = {"content-type": kind, "x-tag": f"{who.name}/{naming}", **dict(who.headers)}
            if who.credential:
                headers["authorization"] = f"Bearer {scene.managed.get(who.credential, who.credential)}"
            url = URL(f"{scene.stage.envoy.url}/v1/audio/transcriptions{query}", encoded=True)
            async with session.post(url, data=io.BytesIO(body), headers=headers) as response:
                found = response.status
            # This caller may not use the paths of calls, and this is none.
            right = 200 if who.name == "pathy" else who.status
            expected = 401 if who.status == 401 else status or right
            if status == OPEN and who.name in {"star", "guest"}:
                # Who is permitted some models, and nothing besides, may not use what is no call.
                expected = 403
            if found == 404:
                # The simulated server has no such path; what matters is that the request reached it.
                found = 200
            if found != expected:
                wrong.append((who.name, naming, found))
            if expected == 200:
                allowed.append(headers["x-tag"])

    assert wrong == []
    assert [request.headers["x-tag"] for request in studio.requests] == allowed


async def test_a_large_upload_goes_past_where_no_model_is_named(scene):
    headers = {"authorization": f"Bearer {secret_of('sales')}", "content-type": MULTIPART}
    large = form(("file", b"\0" * 40 * 1024 * 1024), ("model", b"open"))
    async with aiohttp.ClientSession() as session:
        statuses = []
        for path in ("/v1/files", "/v1/audio/transcriptions"):
            async with session.post(f"{scene.stage.envoy.url}{path}", data=io.BytesIO(large), headers=headers) as found:
                statuses.append(found.status)

    assert statuses == [404, 413]
    assert len(scene.stage.upstreams["studio"].requests[-1].body) == len(large)


async def test_a_secret_turns_up_nowhere(scene):
    """After the matrix: not in a log, a trace, a metric, an answer of the admin API, the store or a model's request."""
    stage = scene.stage
    secrets = [CANARY, *(secret.rpartition("-")[2] for secret in scene.managed.values()), token().rpartition(".")[0]]
    pages: dict[str, str] = {}
    async with aiohttp.ClientSession() as session:
        for page in ("metrics", "readyz", "v1/activity", "v1/config", "v1/rollouts", "v1/experiments"):
            async with session.get(f"{stage.admin}/{page}") as response:
                pages[page] = await response.text()
        for name in ("eng", "sales", "wrong"):
            headers = {"authorization": f"Bearer {secret_of(name)}"}
            async with session.post(f"{stage.admin}/v1/route", data=NAMINGS["alias"][0], headers=headers) as response:
                pages[f"explain {name}"] = await response.text()
            async with session.post(f"{stage.envoy.url}{CHAT}", data=b"{", headers=headers) as response:
                pages[f"error {name}"] = await response.text()
    for path in (stage.log, stage.envoy.log, stage.envoy.access_log, *(stage.path.parent / "redis").rglob("*")):
        if path.is_file():
            pages[str(path)] = path.read_bytes().decode("utf-8", "replace")
    for name, upstream in stage.upstreams.items():
        pages[f"model {name}"] = str([(request.headers, request.body, request.path) for request in upstream.requests])
    pages |= {f"collector {at}": body.decode("latin-1") for at, body in enumerate(scene.sent)}
    found = [(place, secret) for place, text in pages.items() for secret in secrets if secret in text]

    assert "denied" in pages[str(stage.log)]
    assert "wissel_denials" in pages["metrics"]
    assert any(body.startswith(b"/v1/traces") and b"gen_ai.request.model" in body for body in scene.sent)
    assert any("no-sales" in text for place, text in pages.items() if "aof" in place)
    assert found == []
