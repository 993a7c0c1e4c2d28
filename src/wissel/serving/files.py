"""The configuration's file and all that it names, looked at again and again.

Polling by content sees every way in which a file is replaced: written over,
renamed, or, as mounts of Kubernetes do, by a link that leads elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import file_digest
from pathlib import Path
from typing import Final

from wissel.config import named_files

LOOK_SECONDS: Final = 0.3
"""Between two looks at the files."""


class Files:
    """The files as they were at the last look; the first is taken at once, before anybody reads them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: frozenset[str] = frozenset()
        """Ever since the start: what serves may be older than what the file says now."""
        self._seen: dict[str, bytes | None] = {}
        self.have_changed()

    def have_changed(self) -> bool:
        """Whether any of them is not what it was when this was asked last."""
        written = _digest(self._path)
        if written is None:
            # It is being replaced.
            written = self._seen.get("")
        elif written != self._seen.get(""):
            self._named |= _named_in(self._path)
        found = {"": written, **{name: _digest(Path(name)) for name in self._named}}
        if found == self._seen:
            return False
        self._seen = found
        return True


async def follow(files: Files, reload: Callable[[], Awaitable[None]]) -> None:
    """Have `reload` called whenever they have changed, for ever."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if files.have_changed():
            await reload()


def _named_in(path: Path) -> frozenset[str]:
    try:
        return named_files(path.read_bytes())
    except OSError:
        return frozenset()


def _digest(path: Path) -> bytes | None:
    """None where there is no such file right now; what a pipe holds can be read once, by whoever needs it."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return file_digest(file, "sha256").digest()
    except (OSError, ValueError):
        return None
