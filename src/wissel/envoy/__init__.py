"""A plan of where things are becomes Envoy's whole bootstrap.

Everything here follows from one idea: **a request that wissel did not decide
goes nowhere.** Callers cannot bring a routing header, since all `x-wissel-*`
are taken from them before any filter runs; the one route to a model wants
`x-wissel-cluster`; the filter fails closed; and what is left over, such as a
processor that hung up without a word, meets a route that answers 503.

The second idea is time. An answer of a language model may take minutes and
say nothing for long, so no clock bounds a whole stream: neither the route's
nor the one on the call to the processor. Silence is bounded instead.
"""

from wissel.envoy.discovery import CLUSTER, Publication, digest, has_wanted, published
from wissel.envoy.listener import bootstrap, render
from wissel.envoy.plans import (
    ClusterTLS,
    EnvoyPlan,
    Polled,
    UpstreamCluster,
    Watched,
    message_timeout,
    plan,
    processors,
    verified_namespace,
)
from wissel.envoy.processor import PROCESSOR_CLUSTER, override_modes

__all__ = [
    "CLUSTER",
    "PROCESSOR_CLUSTER",
    "ClusterTLS",
    "EnvoyPlan",
    "Polled",
    "Publication",
    "UpstreamCluster",
    "Watched",
    "bootstrap",
    "digest",
    "has_wanted",
    "message_timeout",
    "override_modes",
    "plan",
    "processors",
    "published",
    "render",
    "verified_namespace",
]
