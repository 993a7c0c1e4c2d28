"""An Envoy that runs is asked about itself, and sent one request to see who answers."""

from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from wissel.config import Config
from wissel.core.names import REQUEST_ID_HEADER
from wissel.doctor.dump import Chain, read_chains
from wissel.doctor.examine import Probe, State, chains_to_models, counted, examine, judge
from wissel.doctor.finding import Finding
from wissel.errors import ConfigError, UpstreamError

CLUSTERS_VERSION: Final = "cluster_manager.cds.version_text"


async def diagnose(config: Config, *, envoy: str | None = None, workers: int = 1) -> list[Finding]:
    """Examine the Envoy whose admin listens at the URL `envoy`, by default the one in the configuration.

    Raises ConfigError where that is not known, and UpstreamError where it does not answer.
    """
    if envoy is None:
        if config.envoy is None:
            raise ConfigError(["envoy: this section is missing; give the URL of Envoy's admin with --envoy"])
        envoy = f"http://{config.envoy.admin}"
    admin = envoy.rstrip("/")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        config_dump = await _fetch(session, f"{admin}/config_dump?include_eds")
        before = await _stats(session, admin)
        chains = chains_to_models(read_chains(config_dump), config)
        answers = [await _send(session, _url(chain, admin)) for chain in chains]
        clusters = await _fetch(session, f"{admin}/clusters?format=json")
        state = await _state(session, admin)
        stats = await _stats(session, admin)
    begun = counted(stats, "streams_started") - counted(before, "streams_started")
    probes = [Probe(*answer, streams=begun) for answer in answers]
    return [*map(judge, probes), *examine(config_dump, stats, clusters, config, workers=workers, state=state)]


def _url(chain: Chain, admin: str) -> str:
    """Where callers reach a chain, as seen from here."""
    address = chain.listener.get("address", {}).get("socket_address", {})
    host = str(address.get("address", ""))
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104  # nothing is bound: it is what Envoy says
        host = urlsplit(admin).hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if chain.is_secured else 'http'}://{shown}:{address.get('port_value', 0)}/v1/models"


async def _send(session: aiohttp.ClientSession, url: str) -> tuple[str, int | None, bool]:
    """The URL, the status and whether wissel answered; the answer needs no key, for a refusal tells as much."""
    try:
        # Nothing is told and nothing believed, so who holds the certificate does not matter.
        async with session.get(url, ssl=False) as answer:
            return url, answer.status, REQUEST_ID_HEADER in answer.headers
    except (aiohttp.ClientError, TimeoutError):
        return url, None, False


async def _stats(session: aiohttp.ClientSession, admin: str) -> dict[str, int]:
    told = await _fetch(session, f"{admin}/stats?format=json&filter=ext_proc")
    return {each["name"]: each["value"] for each in told.get("stats", []) if "value" in each}


async def _state(session: aiohttp.ClientSession, admin: str) -> State:
    runtime = await _fetch(session, f"{admin}/runtime")
    found = await _fetch(session, f"{admin}/stats?format=json&filter=^{CLUSTERS_VERSION}$")
    versions = [each["value"] for each in found.get("stats", []) if each.get("name") == CLUSTERS_VERSION]
    return State(runtime.get("entries", {}), str(versions[0]) if versions else "")


async def _fetch(session: aiohttp.ClientSession, url: str) -> Any:
    try:
        async with session.get(url) as answer:
            if answer.status != 200:
                raise UpstreamError(f"Envoy's admin answered {answer.status} to GET {url}")
            return await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise UpstreamError(f"Envoy's admin does not answer to GET {url}: {error}") from error
