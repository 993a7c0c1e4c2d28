"""An identity that Envoy's own jwt_authn has verified, from a token to wissel's rules.

Real Envoy, real wissel: the bootstrap is that of `wissel envoy`, and the filter
stands before wissel's as an operator would put it there.
"""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from real import needs_envoy
from signers import FORGER, SIGNER
from wissel.demo.parts import envoy_binary, free_port
from wissel.demo.stage import running_stage
from wissel.envoy import bootstrap, plan
from wissel.runtime.child import running

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy]

DOCUMENT = {
    "models": [{"name": "small", "cluster": "one"}, {"name": "large", "cluster": "one"}],
    "access": {
        "envoy_identity": {},
        "rules": [
            {"id": "staff", "effect": "permit", "groups": ["staff"], "models": ["small"]},
            {"id": "ada", "effect": "permit", "principals": ["envoy:ada"], "models": ["large"]},
        ],
    },
}


def jwt_authn() -> dict[str, Any]:
    """The filter with a local key set; a request without a token passes it, so that wissel has to refuse it."""
    public = {**RSAAlgorithm.to_jwk(SIGNER.public_key(), as_dict=True), "kid": "k"}
    provider = {
        "issuer": "https://id",
        "audiences": ["wissel"],
        "local_jwks": {"inline_string": json.dumps({"keys": [public]})},
        "payload_in_metadata": "payload",
    }
    requires = {"requires_any": {"requirements": [{"provider_name": "id"}, {"allow_missing": {}}]}}
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"id": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": requires}],
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Where an Envoy listens that runs jwt_authn before wissel."""
    home = tmp_path_factory.mktemp("identity")
    async with running_stage(DOCUMENT, home) as stage, aiohttp.ClientSession() as session:
        listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        started_with: dict[str, Any] = bootstrap(replace(plan(stage.config), listen=listen, admin=admin))
        manager = started_with["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"].insert(0, jwt_authn())
        (home / "verifying.yaml").write_text(yaml.safe_dump(started_with))

        async def is_live() -> bool:
            try:
                async with session.get(f"http://{admin}/ready") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        command = [envoy_binary(), "-c", str(home / "verifying.yaml"), "--disable-hot-restart", "--concurrency", "1"]
        async with running(command, log=home / "verifying.log", ready=is_live):
            yield f"http://{listen}"


def token(key: rsa.RSAPrivateKey = SIGNER, **claims: Any) -> str:
    payload = {"iss": "https://id", "aud": "wissel", "sub": "ada", "groups": ["staff"], "exp": time.time() + 86_400}
    return jwt.encode({**payload, **claims}, key, "RS256", headers={"kid": "k"})


async def ask(url: str, model: str, shown: str | None) -> tuple[int, str]:
    """The status, and who served or why nobody did."""
    headers = {"authorization": f"Bearer {shown}"} if shown else {}
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, response.headers.get("x-wissel-model") or text


async def test_the_caller_and_its_groups_reach_the_rules(url: str):
    assert await ask(url, "small", token()) == (200, "small")
    assert await ask(url, "large", token()) == (200, "large")


async def test_somebody_else_is_somebody_else(url: str):
    assert await ask(url, "small", token(sub="bob")) == (200, "small")
    assert (await ask(url, "large", token(sub="bob")))[0] == 403
    assert (await ask(url, "small", token(sub="bob", groups=[])))[0] == 403


async def test_who_shows_nothing_is_nobody(url: str):
    status, why = await ask(url, "small", None)

    assert (status, json.loads(why)["error"]["code"]) == (401, "invalid_api_key")


async def test_what_envoy_does_not_believe_gets_no_further(url: str):
    for shown in (token(FORGER), token(exp=time.time() - 600), token(aud="other"), token(iss="https://other")):
        assert (await ask(url, "small", shown))[0] in {401, 403}
