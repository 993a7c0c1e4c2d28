"""What an Envoy says of the clusters that it has, asked at its own admin."""

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

_SECONDS: Final = aiohttp.ClientTimeout(total=2)
_COUNTERS: Final = "cluster_manager.cds."


@dataclass(frozen=True, slots=True)
class Learnt:
    """What it says."""

    version: str
    """Of the latest update that it took; empty before the first."""
    refused: int
    """Updates that it did not take, since its start."""
    active: frozenset[str]
    """Clusters that a request may be sent to, as far as they were asked for."""


class EnvoyAdmin:
    """One that may be away."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._url = f"http://{address}"

    async def told(self, names: Collection[str] = ()) -> Learnt | None:
        """None where nobody answers as Envoy does; `names` are the clusters of interest."""
        try:
            stats = await self._get("/stats", filter=f"^{_COUNTERS}", format="json")
            found = {each["name"].removeprefix(_COUNTERS): each["value"] for each in stats["stats"] if "name" in each}
            active: frozenset[str] = frozenset()
            if names:
                clusters = await self._get("/clusters", format="json")
                active = frozenset(each["name"] for each in clusters["cluster_statuses"])
            return Learnt(str(found.get("version_text", "")), int(found.get("update_rejected", 0)), active & {*names})
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError):
            return None

    async def _get(self, path: str, **query: str) -> Any:
        async with self._session.get(f"{self._url}{path}", params=query, raise_for_status=True) as answer:
            return await answer.json(content_type=None)


@asynccontextmanager
async def reaching(address: str) -> AsyncGenerator[EnvoyAdmin]:
    """The admin at `host:port`, as long as the block runs."""
    async with aiohttp.ClientSession(timeout=_SECONDS) as session:
        yield EnvoyAdmin(session, address)
