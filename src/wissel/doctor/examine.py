"""Envoy's own account of itself (its config dump, its clusters, its counters) becomes findings."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from wissel.config import Config
from wissel.doctor.attempts import inspect_guard, inspect_plans, inspect_trailers, inspect_version
from wissel.doctor.behind import inspect_processors, inspect_published, inspect_upstreams
from wissel.doctor.chain import inspect_manager, inspect_reach, inspect_routes, missing
from wissel.doctor.dump import Chain, Message, leads_to, read_chains, read_clusters, version_of
from wissel.doctor.filter import filter_of, inspect_buffer, inspect_filter
from wissel.doctor.finding import Finding, Severity

_COUNTERS: Final[tuple[tuple[str, Severity, str, str], ...]] = (
    (
        "failure_mode_allowed", "problem", "requests went on undecided, since wissel failed",
        "set failure_mode_allow to false",
    ),
    (
        "spurious_msgs_received", "problem", "answers of wissel did not fit what Envoy had asked",
        "see that only wissel answers here, and that no other filter changes the processing mode",
    ),
    (
        "message_timeouts", "warning", "requests were refused, since wissel did not answer in time",
        "raise message_timeout, or give wissel more processors: see wissel_decision_duration_seconds",
    ),
    (
        "rejected_header_mutations", "problem", "changes to headers were dropped or refused",
        "let mutation_rules allow x-wissel-*, credentials and content-length",
    ),
    (
        "clear_route_cache_ignored", "problem", "decisions did not change the route",
        "see that no other filter has replaced wissel's answer",
    ),
    (
        "clear_route_cache_disabled", "problem", "decisions did not change the route: the filter keeps it",
        "remove disable_clear_route_cache, and leave route_cache_action at DEFAULT",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """What Envoy says besides its configuration; None where it was not asked."""

    runtime: Message | None = None
    """Its runtime's entries, by key."""
    clusters_version: str | None = None
    """Of the clusters that it has learnt while running; empty if none."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came back for `GET /v1/models` through Envoy, and what Envoy counted meanwhile."""

    url: str
    status: int | None
    """None where nothing answered."""
    has_request_id: bool
    streams: int
    """The ext_proc streams that were begun."""


def examine(
    config_dump: Message,
    stats: Mapping[str, int],
    clusters: Message,
    config: Config,
    *,
    workers: int = 1,
    state: State = State(),
) -> list[Finding]:
    """What `/config_dump?include_eds`, `/stats`, `/clusters` and `/runtime` of Envoy's admin say, against the file.

    Each processor in the configuration stands for so many workers.
    """
    wanted = _wanted(config)
    chains = chains_to_models(read_chains(config_dump), config)
    findings = list(inspect_reach(chains))
    known = read_clusters(config_dump)
    for chain in chains:
        findings += inspect_manager(chain)
        findings += inspect_routes(chain, wanted)
        if (found := filter_of(chain, known, config)) is None:
            findings.append(missing(chain))
            continue
        findings += inspect_filter(chain, found, config)
        findings += inspect_buffer(chain, found, wanted)
        findings += inspect_processors(known, clusters, found, config, workers)
        findings += inspect_trailers(chain, found, wanted)
        findings += inspect_plans(chain, found, wanted, known, config)
    findings += inspect_version(version_of(config_dump), config)
    findings += inspect_guard(state.runtime, wanted, known)
    findings += inspect_published(state.clusters_version, config)
    findings += inspect_upstreams(known, wanted, config)
    findings += _inspect_stats(stats)
    # Two chains may share a processor's cluster, and then its findings.
    return list(dict.fromkeys(findings))


def chains_to_models(chains: Iterable[Chain], config: Config) -> list[Chain]:
    """Those that serve what wissel decides on; an Envoy may have others."""
    wanted = _wanted(config)
    return [chain for chain in chains if any(leads_to(route, wanted) for _, route in chain.routes)]


def _wanted(config: Config) -> set[str]:
    return {user.cluster for user in (*config.models, *config.passthrough)}


def judge(probe: Probe) -> Finding:
    """Whether Envoy asked wissel about a request that was sent to find out."""
    if probe.status is None:
        why = f"GET {probe.url} was not answered, so nobody knows whether Envoy asks wissel"
        return Finding("probe", "warning", why, "run the doctor where callers can reach Envoy")
    if probe.has_request_id and probe.streams:
        return Finding("probe", "ok", f"GET {probe.url} was answered by wissel ({probe.status})")
    if probe.streams:
        why = f"Envoy asked a processor about GET {probe.url}, and the answer ({probe.status}) is not wissel's"
        return Finding("probe", "problem", why, "see whether wissel runs, and that Envoy's grpc_service leads to it")
    why = f"GET {probe.url} was answered ({probe.status}) and no processor was asked"
    return Finding("probe", "problem", why, "put the ext_proc filter into the filter chain that serves this address")


def _inspect_stats(stats: Mapping[str, int]) -> Iterator[Finding]:
    for name, severity, why, change in _COUNTERS:
        count = counted(stats, name)
        if count:
            yield Finding(name, severity, f"{why}, {count} times since Envoy started", change)
        else:
            yield Finding(name, "ok", "has not happened since Envoy started")


def counted(stats: Mapping[str, int], name: str) -> int:
    """A counter of the ext_proc filter, over all chains."""
    pattern = re.compile(rf"http\..+\.ext_proc\.(?:.+\.)?{name}")
    return sum(value for key, value in stats.items() if pattern.fullmatch(key))
