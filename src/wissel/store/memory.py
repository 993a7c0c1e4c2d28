"""What this replica knew last of every rollout, also after it was started again.

A Redis that came back empty looks like one that was never used. Whoever has
read a rollout's record knows the difference, so it is noted on this machine's
own disk, in one small file for each configuration namespace, whenever a rollout
got somewhere else. Only where Redis and every replica's disk are gone together
can nobody know, and the rollout begins as a new one does.

The file is written beside everything else: a disk that is slow, full or
read-only costs the note and no more.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog

from wissel.core.rollouts import record
from wissel.core.rollouts.analysis import Analysis
from wissel.core.rollouts.rollout import Rollout
from wissel.errors import StoreError

log = structlog.get_logger(__name__)


class ReplicaMemory:
    """Of one replica, for one configuration namespace; without `data` only as long as it lives."""

    def __init__(self, namespace: str = "", data: Path | None = None) -> None:
        self._path: Final = data and data / f"rollouts-{quote(namespace, safe='')}.json"
        self._noted: dict[str, Rollout] = dict(_read(self._path)) if self._path else {}
        self._is_news = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def saw(self, rollout: Rollout) -> None:
        """The rollout's record says so."""
        note = _note(rollout)
        if self._noted.get(rollout.name) != note:
            self._noted[rollout.name] = note
            self._is_news.set()

    def recall(self, name: str) -> Rollout | None:
        """Where the rollout stood when this replica last knew, without its evidence."""
        return self._noted.get(name)

    async def run(self) -> None:
        """Write what is new until cancelled."""
        while True:
            await self._is_news.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write what is new, and see it written; what cannot be written is told."""
        if self._writing is not None:
            # Begun by somebody who was cancelled meanwhile: a thread goes on all the same.
            await asyncio.wait([self._writing])
        is_news = self._is_news.is_set()
        self._is_news.clear()
        if self._path is None or not is_news:
            return
        text = json.dumps([record.dump(note) for note in self._noted.values()])
        self._writing = asyncio.create_task(_save(self._path, text))
        await asyncio.shield(self._writing)


def _note(rollout: Rollout) -> Rollout:
    """What has to be known of a rollout whose record is gone: not how time passes in it."""
    return replace(rollout, at=0.0, elapsed=0.0, since_look=0.0, reason="", verdict=None, analysis=Analysis())


def _read(path: Path) -> Mapping[str, Rollout]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text())
        notes = [record.load(note) for note in found]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, StoreError) as error:
        log.warning("rollouts_not_remembered", path=str(path), problem=str(error))
        return {}
    return {note.name: note for note in notes}


async def _save(path: Path, text: str) -> None:
    try:
        await asyncio.to_thread(_write, path, text)
    except OSError as error:
        log.warning("rollouts_not_noted", path=str(path), problem=str(error))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, whenever the process or the machine dies, and whichever worker writes beside it.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
