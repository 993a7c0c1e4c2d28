"""What large requests leave behind, and what the collector of cycles walks over while they are read: little."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from real import needs_envoy, until
from redteam.attack import MEBIBYTE, Target
from redteam.bodies import CHAT
from redteam.field import resident, running_field

pytestmark = [pytest.mark.slow, needs_envoy]

NO_COLLECTOR = "import gc\ngc.disable()\n"

TELLS_THEM = """
import gc, pathlib, signal
told = pathlib.Path(__file__).with_name("told")
signal.signal(signal.SIGUSR1, lambda *_: told.write_text(f"{len(gc.get_objects())} objects"))
"""
MOST_WALKED = 20_000
"""Objects: a tenth of what a process has that serves."""


def large(size: int) -> bytes:
    """A call of so many bytes, in messages of 2 KB, that passes."""
    message = {"role": "user", "content": "what is the time in Lisbon? " * 70}
    count = size // len(json.dumps(message))
    return json.dumps({"model": "attacked", "messages": [message] * count}).encode()


@pytest.fixture
def begin_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Give every interpreter something to read first."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return (tmp_path / "sitecustomize.py").write_text


async def test_twelve_large_requests_leave_nothing_behind_without_a_collector(
    tmp_path: Path, begin_with: Callable[[str], object]
):
    begin_with(NO_COLLECTOR)
    body = large(8 * MEBIBYTE)
    async with running_field(tmp_path, {}) as stage:
        target = Target(stage.envoy.url.removeprefix("http://"), "attacker")
        # The first one brings buffers that are used again.
        assert await asyncio.to_thread(target.post, CHAT, body) == 200
        before = resident(stage.process_id)
        answers = [await asyncio.to_thread(target.post, CHAT, body) for _ in range(12)]

        assert (answers, (resident(stage.process_id) - before) // MEBIBYTE < 100) == ([200] * 12, True)


async def test_a_collection_does_not_walk_over_what_was_there_at_the_start(
    tmp_path: Path, begin_with: Callable[[str], object]
):
    begin_with(TELLS_THEM)
    told = tmp_path / "told"
    async with running_field(tmp_path, {}) as stage:
        os.kill(stage.process_id, signal.SIGUSR1)
        await until(lambda: told.exists() and told.read_text().endswith("objects"))

        assert int(told.read_text().split()[0]) < MOST_WALKED
