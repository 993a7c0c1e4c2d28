"""Names that callers, Envoy and wissel agree on: headers, the namespace of the metadata, the gRPC service."""

from typing import Final

PREFIX: Final = "x-wissel-"
"""Of every header that is wissel's."""
CLUSTER_HEADER: Final = "x-wissel-cluster"
"""Envoy routes by it."""
MODEL_HEADER: Final = "x-wissel-model"
ROUTE_HEADER: Final = "x-wissel-route"
VARIANT_HEADER: Final = "x-wissel-variant"
REQUEST_ID_HEADER: Final = "x-wissel-request-id"
PLAN_HEADER: Final = "x-wissel-plan"
"""How many models a request may be tried on; only where that is more than one."""
HELD_HEADER: Final = "x-wissel-held"
"""Set where an answer is held back until it says something, as long as another model may follow."""
REWRITTEN_HEADER: Final = "x-wissel-rewritten"
"""Set for a further attempt once it was written for its model; without it no credential leaves Envoy with it."""
ATTEMPTS_HEADER: Final = "x-wissel-attempts"
"""In an answer: how many models were asked."""
COUNTED_HEADER: Final = "x-wissel-counted"
"""In an answer: that its tokens were estimated by wissel and counted by no server."""
DROPPED_HEADER: Final = "x-wissel-dropped"
"""In an answer: the members of the caller's body that its model did not get."""
STAGE_KEY: Final = "x-wissel-stage"
"""In the metadata of a gRPC call of an Envoy that walks plans: what it asks about."""
REQUEST_STAGE: Final = "request"
ATTEMPT_STAGE: Final = "attempt"
HELD_STAGE: Final = "held"

OWNED: Final = frozenset(
    {
        CLUSTER_HEADER,
        MODEL_HEADER,
        ROUTE_HEADER,
        VARIANT_HEADER,
        REQUEST_ID_HEADER,
        PLAN_HEADER,
        HELD_HEADER,
        REWRITTEN_HEADER,
        ATTEMPTS_HEADER,
        COUNTED_HEADER,
        DROPPED_HEADER,
    }
)
"""The headers that wissel sets; a caller that could set them would choose in its place."""

NAMESPACE: Final = "wissel"
"""Of the dynamic metadata."""
ATTEMPTS_NAMESPACE: Final = "wissel.attempts"
"""Of the metadata that says where a request goes, and what each attempt is made of."""

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
"""The gRPC service, which is also the name under which the health service answers for it."""

DISCOVERY_CLUSTER: Final = "wissel_discovery"
"""Envoy's cluster of wissel's admin listener, and so the host that it asks for there."""
