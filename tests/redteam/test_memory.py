"""What large requests leave behind, where nothing collects cycles: nothing that grows."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from real import needs_envoy
from redteam.attack import MEBIBYTE, Target
from redteam.bodies import CHAT
from redteam.field import resident, running_field

pytestmark = [pytest.mark.slow, needs_envoy]

NO_COLLECTOR = "import gc\ngc.disable()\n"
"""As `sitecustomize`, which every interpreter reads first."""


def large(size: int) -> bytes:
    """A call of so many bytes, in messages of 2 KB, that passes."""
    message = {"role": "user", "content": "what is the time in Lisbon? " * 70}
    count = size // len(json.dumps(message))
    return json.dumps({"model": "attacked", "messages": [message] * count}).encode()


async def test_twelve_large_requests_leave_nothing_behind_without_a_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "sitecustomize.py").write_text(NO_COLLECTOR)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    body = large(8 * MEBIBYTE)
    async with running_field(tmp_path, {}) as stage:
        target = Target(stage.envoy.url.removeprefix("http://"), "attacker")
        # The first one brings buffers that are used again.
        assert await asyncio.to_thread(target.post, CHAT, body) == 200
        before = resident(stage.process_id)
        answers = [await asyncio.to_thread(target.post, CHAT, body) for _ in range(12)]

        assert (answers, (resident(stage.process_id) - before) // MEBIBYTE < 100) == ([200] * 12, True)
