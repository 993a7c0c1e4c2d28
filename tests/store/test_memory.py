import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rollout_factories import a_spec, begun, evidence
from wissel.core.rollouts.rollout import Rollout, advance
from wissel.store import memory as memory_module
from wissel.store.memory import ReplicaMemory

CHAT = begun(a_spec())


def only_file(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


async def noted(data: Path, *rollouts: Rollout, namespace: str = "test") -> None:
    memory = ReplicaMemory(namespace, data)
    for rollout in rollouts:
        memory.saw(rollout)
    await memory.flush()


async def test_where_a_rollout_stood_is_known_after_a_restart(tmp_path: Path):
    await noted(tmp_path / "new", replace(CHAT, weight=100, is_promoted=True, attempt=3))
    known = ReplicaMemory("test", tmp_path / "new").recall(CHAT.name)

    assert known is not None
    assert (known.revision, known.attempt, known.weight, known.phase) == (CHAT.revision, 3, 100, "healthy")


async def test_the_latest_counts(tmp_path: Path):
    await noted(tmp_path, CHAT, replace(CHAT, weight=50))
    known = ReplicaMemory("test", tmp_path).recall(CHAT.name)

    assert known is not None
    assert known.weight == 50


async def test_time_that_passes_and_looks_are_not_written(tmp_path: Path):
    await noted(tmp_path, CHAT)
    written = only_file(tmp_path)
    written.unlink()
    memory = ReplicaMemory("test", tmp_path)
    memory.saw(CHAT)
    await memory.flush()
    written.unlink()
    memory.saw(replace(advance(CHAT, a_spec(), evidence(), 30).rollout, is_cleared=False))
    await memory.flush()

    assert not written.exists()


async def test_namespaces_are_kept_apart(tmp_path: Path):
    await noted(tmp_path, CHAT, namespace="../a")

    assert ReplicaMemory("../a", tmp_path).recall(CHAT.name) is not None
    assert ReplicaMemory("b", tmp_path).recall(CHAT.name) is None


async def test_what_another_process_noted_is_kept(tmp_path: Path):
    await noted(tmp_path, CHAT)
    await noted(tmp_path, replace(CHAT, name="code"))
    memory = ReplicaMemory("test", tmp_path)

    assert memory.recall(CHAT.name) is not None
    assert memory.recall("code") is not None


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '[{"layout": 99}]', "\x00"])
async def test_a_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, text: str):
    await noted(tmp_path, CHAT)
    written = only_file(tmp_path)
    written.write_text(text)

    assert ReplicaMemory("test", tmp_path).recall(CHAT.name) is None


async def test_a_disk_that_takes_nothing_costs_only_the_note(tmp_path: Path):
    (tmp_path / "file").write_text("")
    memory = ReplicaMemory("test", tmp_path / "file")
    memory.saw(CHAT)
    await memory.flush()

    assert memory.recall(CHAT.name) is not None


async def test_what_is_seen_is_written_beside_everything_else(tmp_path: Path):
    memory = ReplicaMemory("test", tmp_path)
    writing = asyncio.create_task(memory.run())
    memory.saw(CHAT)
    async with asyncio.timeout(5):
        while ReplicaMemory("test", tmp_path).recall(CHAT.name) is None:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.01)
    writing.cancel()
    await asyncio.wait([writing])

    assert only_file(tmp_path).name == "rollouts-test.json"


async def test_a_write_that_was_cancelled_on_its_way_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = memory_module._write

    def slowly(path: Path, text: str) -> None:
        time.sleep(0.2)
        write(path, text)

    monkeypatch.setattr(memory_module, "_write", slowly)
    memory = ReplicaMemory("test", tmp_path)
    memory.saw(CHAT)
    running = asyncio.create_task(memory.run())
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])
    await memory.flush()

    assert ReplicaMemory("test", tmp_path).recall(CHAT.name) is not None
