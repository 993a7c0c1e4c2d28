"""Clusters that Envoy learns while it runs: where its bootstrap says they come from, and what is published there.

What is published has two parts, the clusters that the configuration has, and
those that it had: attempts that were decided before may still go there. A
version names both, `WANTED` or `WANTED+KEPT`, so that whoever compares it
knows whether Envoy has what a configuration needs, whatever it has besides.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import PurePath
from typing import Final

from wissel.core.names import DISCOVERY_CLUSTER
from wissel.envoy.attempts import attempt_filters, signed
from wissel.envoy.fields import Fields, discovery, endpoints, http_options, many, seconds, typed
from wissel.envoy.plans import EnvoyPlan, Polled, Watched
from wissel.envoy.upstream import tls_socket, upstream_cluster

CLUSTER: Final = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
FIRST_SECONDS: Final = 5.0
"""That an Envoy which starts waits for its clusters, before it serves without them."""

_TOKEN: Final = "wissel_admin_token"  # noqa: S105  # the name of a secret


@dataclass(frozen=True, slots=True)
class Publication:
    """Clusters by name, in Envoy's words."""

    wanted: Mapping[str, Fields]
    """Those of the configuration."""
    kept: Mapping[str, Fields] = field(default_factory=dict[str, Fields])
    """Those that are named no more; no name is in both."""

    @property
    def version(self) -> str:
        return f"{digest(self.wanted)}+{digest(self.kept)}" if self.kept else digest(self.wanted)

    @property
    def counts(self) -> tuple[str, int, int]:
        """The version, how many are wanted, and how many are kept."""
        return self.version, len(self.wanted), len(self.kept)

    def response(self) -> Fields:
        """A DiscoveryResponse, as Envoy reads it from a file or over REST."""
        resources = [{"@type": CLUSTER, **each} for each in (*self.wanted.values(), *self.kept.values())]
        return {"version_info": self.version, "type_url": CLUSTER, "resources": resources}


def published(plan: EnvoyPlan) -> dict[str, Fields]:
    """The clusters that a plan wants, by name."""
    filters = attempt_filters(plan)
    return {each.name: upstream_cluster(each, signed(filters, plan, each)) for each in plan.clusters}


def digest(clusters: Mapping[str, Fields]) -> str:
    """The same for the same clusters in any order, 12 hex digits."""
    return sha256(json.dumps(clusters, sort_keys=True).encode()).hexdigest()[:12]


def has_wanted(version: str, wanted: str) -> bool:
    """Whether an Envoy at this version has the clusters whose digest is `wanted`."""
    return version.partition("+")[0] == wanted


def source(found: Watched | Polled) -> Fields:
    """The bootstrap's `dynamic_resources`."""
    match found:
        case Watched(path):
            # The folder and not the file: Envoy sees a file that is put in another's place only so.
            told: Fields = {
                "path_config_source": {"path": path, "watched_directory": {"path": str(PurePath(path).parent)}}
            }
        case Polled(every=every):
            told = {
                "api_config_source": {
                    "api_type": "REST",
                    "transport_api_version": "V3",
                    "cluster_names": [DISCOVERY_CLUSTER],
                    "refresh_delay": seconds(every),
                    "request_timeout": "2s",
                }
            }
    return {
        "cds_config": {"resource_api_version": "V3", "initial_fetch_timeout": seconds(FIRST_SECONDS), **told},
    }


def discovery_clusters(found: Watched | Polled | None) -> list[Fields]:
    """What the bootstrap needs to reach an admin listener."""
    if not isinstance(found, Polled):
        return []
    cluster: Fields = {
        "name": DISCOVERY_CLUSTER,
        "type": discovery([found.address]),
        "connect_timeout": "1s",
        "circuit_breakers": many(),
        "typed_extension_protocol_options": http_options(
            # aiohttp hangs up after 75 s without a request; who hangs up first loses none.
            common_http_protocol_options={"idle_timeout": "60s"},
            explicit_http_config={"http_protocol_options": {}},
            **({"http_filters": _shows_token()} if found.token else {}),
        ),
        "load_assignment": endpoints(DISCOVERY_CLUSTER, [found.address]),
    }
    if found.tls:
        cluster["transport_socket"] = tls_socket(found.tls)
    return [cluster]


def secrets(found: Watched | Polled | None) -> list[Fields]:
    """What Envoy reads from files at its start."""
    if not isinstance(found, Polled) or found.token is None:
        return []
    return [{"name": _TOKEN, "generic_secret": {"secret": {"filename": found.token}}}]


def _shows_token() -> list[Fields]:
    generic = typed(
        "envoy.extensions.http.injected_credentials.generic.v3.Generic",
        credential={"name": _TOKEN},
        header="authorization",
        header_value_prefix="Bearer ",
    )
    return [
        {
            "name": "envoy.filters.http.credential_injector",
            "typed_config": typed(
                "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
                overwrite=True,
                credential={"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
            ),
        },
        {
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"),
        },
    ]
