"""A canary whose upstream refuses requests, through a real Envoy and a real Redis, with the metrics that are built in.

The operator wrote nothing about refusals, and stable refuses nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from real import needs_envoy, needs_redis
from sampling import IS_WHOLE
from wissel.demo.stage import running_stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
    needs_envoy,
    needs_redis,
]

STATUSES = (400, 401, 403, 404, 422)
RATES = {"all": 1.0, "some": 0.1}
CANARIES = {
    f"{status}-{rate}": (status, share)
    for status in STATUSES
    for rate, share in RATES.items()
    # What is rare takes long to be seen: of those a sample, one for each metric that sees it.
    if IS_WHOLE or rate == "all" or status in {401, 422}
}


def a_rollout(canary: str) -> dict[str, Any]:
    return {
        "name": f"to-{canary}",
        "stable": "old",
        "canary": canary,
        "steps": [
            {"set_weight": 40},
            {"pause": {"duration": "2s"}},
            {"set_weight": 50},
            {"pause": {"duration": "60s"}},
        ],
        "analysis": {"interval": "1s", "metrics": [{"name": "error_rate", "allowed_increase": 0.01}]},
    }


DOCUMENT: dict[str, Any] = {
    "redis": "embedded",
    "models": [{"name": name, "cluster": name} for name in ("old", *CANARIES)],
    "rollouts": [a_rollout(canary) for canary in CANARIES],
}


class Ended(NamedTuple):
    standing: dict[str, Any]
    kinds: list[str]
    served: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ended(tmp_path_factory) -> AsyncIterator[dict[str, Ended]]:
    """Every rollout at its end, all of them served side by side."""
    found: dict[str, Ended] = {}
    async with (
        running_stage(DOCUMENT, tmp_path_factory.mktemp("stage")) as stage,
        aiohttp.ClientSession() as session,
    ):
        for canary, (status, share) in CANARIES.items():
            stage.upstreams[canary].behaviour.error_status = status
            stage.upstreams[canary].behaviour.error_rate = share
        sessions = count()

        async def ask(canary: str) -> None:
            body = {"model": f"to-{canary}", "messages": [{"role": "user", "content": "hi"}]}
            headers = {"x-session-id": f"session-{next(sessions)}"}
            async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=body, headers=headers) as response:
                await response.read()

        async def told(path: str) -> Any:
            async with session.get(f"{stage.admin}/v1/rollouts{path}") as response:
                return await response.json()

        async with asyncio.timeout(200):
            while open_ones := CANARIES.keys() - found.keys():
                for _ in range(5):
                    await asyncio.gather(*(ask(canary) for canary in open_ones for _ in range(4)), asyncio.sleep(0.1))
                for standing in (await told(""))["rollouts"]:
                    canary = standing["canary"]
                    if canary in open_ones and standing["phase"] in {"healthy", "degraded"}:
                        history = (await told(f"/{standing['name']}/history"))["history"]
                        kinds = [each["kind"] for each in history]
                        found[canary] = Ended(standing, kinds, stage.upstreams[canary].served)
        yield found


@pytest.mark.parametrize("canary", CANARIES)
async def test_a_canary_that_is_refused_is_taken_back_within_300_of_its_requests(ended: dict[str, Ended], canary: str):
    standing, kinds, served = ended[canary]

    assert (standing["phase"], standing["set_weight"]) == ("degraded", 0), standing["reason"]
    assert "promoted" not in kinds
    assert served <= 300
    assert standing["reason"].startswith(("refused_rate", "operator_fault_rate"))
