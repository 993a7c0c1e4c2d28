"""The clusters of the configuration, published to an Envoy that runs.

    add:     publish, wait until Envoy has it, then name it
    remove:  stop naming it, wait for what is under way, then remove

A cluster that Envoy has not got, or has no more, is a 503 for whoever is sent
there. So a router is used only after `add` has returned, and `named` says that
it is. What Envoy refuses is taken back, and no router is used for it.
"""

import asyncio
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog

from wissel.config import Config
from wissel.config.model import Discovery
from wissel.envoy import CLUSTER, Publication, digest, has_wanted, plan, published
from wissel.errors import ConfigError
from wissel.serving.envoy import Learnt, reaching

log = structlog.get_logger(__name__)

Clusters = dict[str, dict[str, object]]
"""In Envoy's words, by name."""

PATIENCE_SECONDS: Final = 5.0
"""For an Envoy that can be asked and does not say that it has what is published."""
ASK_SECONDS: Final = 0.02
"""Between two questions to Envoy."""
OFFERS: Final = 2
"""An Envoy that was given a version so many times and asks for it again has refused it."""
SLACK_SECONDS: Final = 30.0
"""After the last attempt may have begun."""
_FOR_EVER: Final = float("inf")


class NotTakenError(ConfigError):
    """Envoy has not taken what was published."""


@dataclass(frozen=True, slots=True)
class _Poll:
    """The latest question of one Envoy over REST."""

    version: str
    """That it has."""
    at: float
    offered: str
    """The version that it was given last."""
    offers: int
    """How often it was."""


class Publisher:
    """Of one process.

    `writes` is whether it writes the file: of several workers one does, and all wait until Envoy has it.
    """

    def __init__(self, discovery: Discovery, envoy_admin: str, *, writes: bool = True) -> None:
        self._discovery = discovery
        self._admin = envoy_admin
        self._path = Path(discovery.file) if discovery.file and writes else None
        self._grace = 0.0
        self._wanted: Clusters = {}
        self._kept: dict[str, tuple[dict[str, object], float]] = {}
        """Those that are named no more, each with the time at which it goes."""
        self._polls: dict[str, _Poll] = {}
        self._writing = asyncio.Lock()

    @property
    def publication(self) -> Publication:
        """What is published at this moment."""
        return Publication(self._wanted, {name: cluster for name, (cluster, _) in self._kept.items()})

    def response(self) -> Mapping[str, object]:
        """As Envoy reads it."""
        return self.publication.response()

    def polled(self, asker: str, version: str) -> bool:
        """An Envoy that has this version asks; whether there is another one for it."""
        current = self.publication.version
        last = self._polls.get(asker)
        offers = last.offers if last is not None and last.offered == current else 0
        self._polls[asker] = _Poll(version, monotonic(), current, offers + (version != current))
        return version != current

    async def begin(self, config: Config) -> str | None:
        """Publish for the first time, and wait for an Envoy that is there; why it does not take it, if so.

        What an earlier process had published stays for the grace time: that one may be finishing. Raises ConfigError
        where the file cannot be written.
        """
        self._wanted = published(plan(config))
        self._grace = self._grace_in(config)
        goes = monotonic() + self._grace
        self._kept = {name: (each, goes) for name, each in self._recalled().items() if name not in self._wanted}
        try:
            # An Envoy that is away reads the file before it serves; one that polls may not have asked yet.
            await self._offer({}, unseen=self._discovery.delay if self._discovery.rest else 0.0)
        except NotTakenError as error:
            # There is nothing to go back to: what Envoy has taken serves.
            return str(error)
        return None

    async def add(self, config: Config) -> None:
        """Return once the configuration's clusters may be named. Raises ConfigError where Envoy has not taken them."""
        wanted = published(plan(config))
        self._grace = self._grace_in(config)
        if wanted == self._wanted:
            return
        before, kept = self._wanted, self._kept
        leaving = {name: (each, _FOR_EVER) for name, each in before.items()}
        self._kept = {name: each for name, each in (kept | leaving).items() if name not in wanted}
        self._wanted = wanted
        try:
            await self._offer(before, unseen=self._discovery.delay)
        except ConfigError:
            self._wanted, self._kept = before, kept
            await self._publish()
            raise
        log.info("clusters_published", version=self.publication.version, clusters=len(wanted))

    def named(self) -> None:
        """What was added is in use, and nothing is sent any more to what the configuration does not have."""
        goes = monotonic() + self._grace
        self._kept = {name: (each, min(until, goes)) for name, (each, until) in self._kept.items()}

    async def run(self) -> None:
        """Remove what is named no more when its time has come, and put back a file that somebody took, for ever."""
        while True:
            await asyncio.sleep(min(1.0, self._grace / 4 + 0.05))
            now = monotonic()
            gone = sorted(name for name, (_, until) in self._kept.items() if until <= now)
            if not gone and (self._path is None or self._path.exists()):
                continue
            self._kept = {name: each for name, each in self._kept.items() if name not in gone}
            try:
                await self._publish()
            except ConfigError as error:
                log.warning("clusters_not_published", problem=str(error))
            else:
                log.info("clusters_removed", clusters=gone, version=self.publication.version)

    def _grace_in(self, config: Config) -> float:
        given = self._discovery.grace
        return config.failover.deadline + SLACK_SECONDS if given is None else given

    def _recalled(self) -> Clusters:
        """What stands in the file; nothing where that is none of ours."""
        if self._path is None:
            return {}
        try:
            found: Any = json.loads(self._path.read_bytes())
            return {each["name"]: each for each in found["resources"] if each.pop("@type") == CLUSTER}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    async def _publish(self) -> None:
        if self._path is not None:
            async with self._writing:
                await asyncio.to_thread(_replace, self._path, json.dumps(self.response(), indent=1))

    async def _offer(self, before: Clusters, *, unseen: float) -> None:
        """Publish, and wait until Envoy has it, or for `unseen` seconds where nobody says whether it has."""
        needed, added = digest(self._wanted), self._wanted.keys() - before.keys()
        async with reaching(self._admin) as envoy:
            earlier = await envoy.told()
            await self._publish()
            began = monotonic()
            while True:
                told, polls = await envoy.told(added), self._recent_polls()
                waited = monotonic() - began
                if told is None and not polls:
                    if waited >= unseen:
                        log.warning("clusters_unseen", envoy_admin=self._admin, after_seconds=unseen)
                        return
                elif _has(told, polls, needed, added):
                    break
                if _refuses(earlier, told, polls, needed):
                    raise self._trouble(before, "Envoy refuses what is published; its log says why")
                if waited >= PATIENCE_SECONDS:
                    raise self._trouble(before, "Envoy has not taken what is published; see `wissel doctor`")
                await asyncio.sleep(ASK_SECONDS)
            # Who has only told a version may still look for addresses, or ask a server whether it is well.
            if told is None and any(_takes_long(self._wanted[name]) for name in added):
                await asyncio.sleep(self._discovery.delay)

    def _recent_polls(self) -> list[_Poll]:
        # Who is restarted asks from another port of the same machine, and so as the same one.
        away = monotonic() - 4 * self._discovery.poll - 2.0
        return [each for each in self._polls.values() if each.at > away]

    def _trouble(self, before: Clusters, why: str) -> NotTakenError:
        changed = sorted(name for name, each in self._wanted.items() if before.get(name) != each)
        return NotTakenError([f"envoy.clusters: {', '.join(changed) or 'removing some'}: {why}"])


def _has(told: Learnt | None, polls: list[_Poll], needed: str, added: Collection[str]) -> bool:
    is_there = told is None or (has_wanted(told.version, needed) and told.active >= set(added))
    return is_there and all(has_wanted(each.version, needed) for each in polls)


def _refuses(earlier: Learnt | None, told: Learnt | None, polls: list[_Poll], needed: str) -> bool:
    if earlier is not None and told is not None and told.refused > earlier.refused:
        return not has_wanted(told.version, needed)
    return any(each.offers > OFFERS and not has_wanted(each.version, needed) for each in polls)


def _takes_long(cluster: dict[str, object]) -> bool:
    return cluster["type"] != "STATIC" or "health_checks" in cluster


def _replace(path: Path, text: str) -> None:
    """Envoy sees a rename only, and must never read half a file. Raises ConfigError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text)
        beside.replace(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError([f'envoy.discovery.file: cannot write "{path}": {why}']) from error
