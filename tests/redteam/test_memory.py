"""What large requests leave behind, and what the collector of cycles walks over while they are read: little."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from real import needs_envoy, until
from redteam.attack import MEBIBYTE, Target
from redteam.bodies import CHAT
from redteam.field import resident, running_field
from wissel.demo.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy]

BEGINS_WITH = """
import gc, pathlib, signal
gc.disable()
told = pathlib.Path(__file__).with_name("told")
signal.signal(signal.SIGUSR1, lambda *_: told.write_text(f"{len(gc.get_objects())} objects"))
"""
"""No collector, and a process that tells of its objects when it is asked."""
MOST_WALKED = 20_000
"""Objects: a tenth of what a process has that serves."""


def large(size: int) -> bytes:
    """A call of so many bytes, in messages of 2 KB, that passes."""
    message = {"role": "user", "content": "what is the time in Lisbon? " * 70}
    count = size // len(json.dumps(message))
    return json.dumps({"model": "attacked", "messages": [message] * count}).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Every interpreter on it reads the beginning first."""
    home = tmp_path_factory.mktemp("memory")
    (home / "sitecustomize.py").write_text(BEGINS_WITH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])]))
        async with running_field(home, {}) as running:
            yield running


async def test_a_collection_does_not_walk_over_what_was_there_at_the_start(stage: Stage):
    told = stage.path.with_name("told")
    os.kill(stage.process_id, signal.SIGUSR1)
    await until(lambda: told.exists() and told.read_text().endswith("objects"))

    assert int(told.read_text().split()[0]) < MOST_WALKED


async def test_twelve_large_requests_leave_nothing_behind_without_a_collector(stage: Stage):
    body = large(8 * MEBIBYTE)
    target = Target(stage.envoy.url.removeprefix("http://"), "attacker")
    # The first one brings buffers that are used again.
    assert await asyncio.to_thread(target.post, CHAT, body) == 200
    before = resident(stage.process_id)
    answers = [await asyncio.to_thread(target.post, CHAT, body) for _ in range(12)]

    assert (answers, (resident(stage.process_id) - before) // MEBIBYTE < 100) == ([200] * 12, True)
