"""What the tests of a plain split have seen so far, kept as long as its counters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wissel.core.rollouts import record
from wissel.core.rollouts.analysis import Analysis
from wissel.core.rollouts.comparison import ComparisonMemory
from wissel.errors import StoreError
from wissel.store.connection import RedisConnection
from wissel.store.keys import COUNTERS_TTL, Keys


class Looks:
    """The memories of one configuration namespace. Every method raises StoreError while Redis is away."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def get(self, split: str, revision: str, metrics: Sequence[str]) -> Mapping[str, Analysis]:
        """By variant; empty if nothing was seen yet, or of another revision. StoreError for what cannot be read.

        What was seen of metrics that this wissel does not look at is forgotten, and one that is new to it begins.
        """
        text = await self._connection.run("GET", self._keys.looks(split))
        if text is None:
            return {}
        try:
            found: dict[str, Any] = json.loads(text)
            if found["revision"] != revision or "metrics" not in found:
                return {}
            variants = {name: record.decode(Analysis, seen) for name, seen in found["variants"].items()}
            return {name: _of(metrics, found["metrics"], analysis) for name, analysis in variants.items()}
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise StoreError(f'redis: what was seen of split "{split}" cannot be read: {problem!r}') from problem

    async def put(self, split: str, revision: str, variants: Mapping[str, Analysis], metrics: Sequence[str]) -> None:
        """Remember this instead; each analysis has a memory for each metric, in order."""
        seen = {name: record.encode(analysis) for name, analysis in variants.items()}
        text = json.dumps({"revision": revision, "metrics": list(metrics), "variants": seen}, separators=(",", ":"))
        await self._connection.run("SET", self._keys.looks(split), text, "EX", COUNTERS_TTL)


def _of(metrics: Sequence[str], seen: Sequence[str], analysis: Analysis) -> Analysis:
    known = dict(zip(seen, analysis.metrics, strict=True))
    return replace(analysis, metrics=tuple(known.get(name, ComparisonMemory()) for name in metrics))
