"""From the `intent.encoder` section to encoders that are loaded, each once for a process.

    section -> exports in the cache (made first where they are missing) -> encoder, batcher, knowledge -> Loaded

A changed configuration that names the same encoder keeps it, with all that it remembers.
"""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from wissel.config import model
from wissel.encoders.base import Encoder, encode_with
from wissel.encoders.batching import Batcher
from wissel.encoders.export import packaged
from wissel.encoders.knowledge import KNOWLEDGE_FILE, Knowledge
from wissel.encoders.remote import RemoteEncoder
from wissel.encoders.transformer import Transformer
from wissel.errors import ConfigError, ModelError

TIMEOUT_S = 900

STRONG = "strong"
"""The second stage of an encoder of this type."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An encoder as classifiers and graders use it."""

    encoder: Encoder
    knowledge: Knowledge
    batcher: Batcher


def ensure(name: str) -> None:
    """Has the exports of a packaged encoder made where they are missing, by a process of its own.

    So a server that finds the cache empty stays as small as one that does not. Raises ModelError.
    """
    if packaged.is_made(name):
        return
    command = [sys.executable, "-m", "wissel.encoders.export", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)  # noqa: S603 - our own module
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"exporting the encoder took longer than {TIMEOUT_S} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it exited with {done.returncode}"]
        raise ModelError(f"the encoder could not be exported: {lines[-1]}")


def first_of(section: model.Encoder) -> str | None:
    """The packaged encoder that is asked first; None where it is another's."""
    if not isinstance(section, model.PackagedEncoder):
        return None
    return "joint" if section.type == STRONG else section.type


def section_of(name: str) -> model.Encoder:
    """What a command's option names: a packaged encoder's type, or a folder. Raises ConfigError."""
    if name in packaged.MADE_OF:
        return model.PackagedEncoder.model_validate({"type": name})
    if not Path(name).is_dir():
        raise ConfigError([f'--encoder: "{name}" is no folder, and none of {", ".join(packaged.MADE_OF)}'])
    return model.FolderEncoder(path=name)


def packaged_in(section: model.Encoder) -> tuple[str, ...]:
    """The packaged encoders that a section needs, by name."""
    match section:
        case model.PackagedEncoder(type="strong"):
            return "joint", STRONG
        case model.PackagedEncoder(type=name):
            return (name,)
        case _:
            return ()


def load(
    section: model.Encoder,
    *,
    name: str | None = None,
    threads: int = 1,
    keys: Mapping[model.Secret, str] = MappingProxyType({}),
) -> tuple[Encoder, Knowledge]:
    """The encoder that is asked first, or the packaged one called `name`. Blocks.

    Raises ModelError if it cannot be had, and UpstreamError if a server does not answer.
    """
    match section:
        case model.FolderEncoder(path=path):
            encoder = Transformer.load(Path(path), threads=threads)
            return encoder, Knowledge.load(Path(path) / KNOWLEDGE_FILE)
        case model.RemoteEncoder():
            remote = RemoteEncoder(
                section.endpoint,
                section.model,
                api_key=keys[section.api_key] if section.api_key else "",
                batch=section.batch,
                timeout=section.timeout_ms / 1000,
            )
            return remote, Knowledge.learn(encode_with(remote.read))
        case model.PackagedEncoder():
            name = name or first_of(section)
            assert name is not None
            ensure(name)
            return packaged.load(name, threads=threads), packaged.load_knowledge(name)


class Encoders:
    """Those of one process."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[model.Encoder, str | None], Loaded] = {}

    async def get(
        self,
        section: model.Encoder,
        name: str | None = None,
        *,
        keys: Mapping[model.Secret, str] = MappingProxyType({}),
    ) -> Loaded:
        """As `load`, and remembered."""
        key = _stripped(section), name
        if key not in self._loaded:
            encoder, knowledge = await asyncio.to_thread(load, section, name=name, keys=keys)
            workers = 8 if isinstance(section, model.RemoteEncoder) else 2
            self._loaded[key] = Loaded(encoder, knowledge, Batcher(encoder.read, workers=workers))
        return self._loaded[key]

    async def keep(self, section: model.Encoder) -> None:
        """Forget those that this section does not name."""
        for key in [key for key in self._loaded if key[0] != _stripped(section)]:
            await self._loaded.pop(key).batcher.close()

    async def close(self) -> None:
        """Stop all threads."""
        for each in self._loaded.values():
            await each.batcher.close()


def _stripped(section: model.Encoder) -> model.Encoder:
    """Without what does not change the encoder."""
    if isinstance(section, model.PackagedEncoder):
        return model.PackagedEncoder(type="joint" if section.type == STRONG else section.type)
    return section
