"""What tests need of the real world, and what they say where it is missing."""

import asyncio
import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from wissel.demo.parts import envoy_binary
from wissel.encoders import weights
from wissel.encoders.export import packaged
from wissel.errors import WisselError
from wissel.store.embedded import redis_binary


def need(part: Callable[[], str], what: str) -> pytest.MarkDecorator:
    """Mark tests that need a part; where it is missing they are skipped, but under `REQUIRE_ALL=1` run and fail."""
    return pytest.mark.skipif(not _is_here(part) and os.environ.get("REQUIRE_ALL") != "1", reason=f"no {what} here")


def optional(part: Callable[[], str], what: str) -> pytest.MarkDecorator:
    """Mark tests that need a part which nobody has to have; where it is missing they are skipped."""
    return pytest.mark.skipif(not _is_here(part), reason=f"no {what} here")


def _is_here(part: Callable[[], str]) -> bool:
    try:
        return bool(part())
    except WisselError:
        return False


def missing(part: object) -> NoReturn:
    """Skips the test that finds a part missing while it runs, or fails where everything is required."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(str(part))
    pytest.skip(str(part))


def _encoder() -> str:
    if packaged.is_made("joint"):
        return str(packaged.knowledge_folder("joint"))
    return f"{weights.MINILM.find()} {weights.USE.find()}"


needs_encoder = need(_encoder, "embedding weights")
needs_envoy = need(envoy_binary, "envoy")
needs_redis = need(redis_binary, "redis-server")


async def until(ready: Callable[[], object]) -> None:
    """Wait for what another process does and nobody announces; the test's timeout bounds it."""
    while not ready():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0.02)
