"""How Envoy asks one model after the other: the specifier of the route's clusters, and what each attempt passes.

The clusters of a request are in its metadata, in order, and each retry goes to
the next of them. What an attempt is made of is written upstream of that choice,
by filters of the cluster that was chosen: the first attempt was written with
the decision and skips them all, so that nothing is paid where nothing fails.
"""

from collections.abc import Sequence

from wissel.core.names import (
    ATTEMPT_STAGE,
    ATTEMPTS_NAMESPACE,
    HELD_HEADER,
    HELD_STAGE,
    PLAN_HEADER,
    REWRITTEN_HEADER,
)
from wissel.envoy.fields import Fields, seconds, typed
from wissel.envoy.plans import UNDECIDED_CLUSTER, EnvoyPlan, UpstreamCluster
from wissel.envoy.processor import grpc_service

STAGE = "wissel.attempt"
"""Named unlike the filter of requests: what a route says of a filter reaches both by name."""
HOLDING = "wissel.held"
"""The stage of an attempt's answer, beside that of its request: each is asked only where it has something to do."""

_SPECIFIER = "envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier"
_HEADER_MUTATION = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
_ATTEMPT_COUNT = "x-envoy-attempt-count"

RUNTIME: Fields = {
    "layers": [
        {
            "name": "wissel",
            "static_layer": {
                # With it Envoy 1.40 dies of a few large bodies at once that pass a processor on an attempt's side.
                "envoy.reloadable_features.grpc_side_stream_flow_control": False,
            },
        }
    ]
}


def unplanned() -> Fields:
    """What matches every request without a plan of several models."""
    return {"prefix": "/", "headers": [{"name": PLAN_HEADER, "present_match": False}]}


def cluster_specifier() -> Fields:
    """The clusters that the metadata names, an attempt each; without it one that has no server."""
    return {
        "extension": {
            "name": "envoy.router.cluster_specifier_plugin.priority_group",
            "typed_config": typed(
                _SPECIFIER,
                priority_groups=[{"name": "undecided", "clusters": [{"cluster_name": UNDECIDED_CLUSTER, "weight": 1}]}],
                override_metadata_namespace=ATTEMPTS_NAMESPACE,
            ),
        }
    }


def retry_policy() -> Fields:
    """One model after the other; with how many, and on which statuses besides, the request says itself."""
    return {
        "retry_on": "5xx,retriable-status-codes",
        "num_retries": 0,
        "refresh_cluster_on_retry": True,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
    }


def undecided_cluster() -> Fields:
    return {"name": UNDECIDED_CLUSTER, "type": "STATIC", "connect_timeout": "1s"}


def attempt_filters(plan: EnvoyPlan) -> list[Fields]:
    """What an attempt passes on its way to a server, in order."""
    credentials: list[Fields] = [{"remove": name} for name in plan.credential_headers]
    return [
        _unless(STAGE, _ext_proc(plan, ATTEMPT_STAGE, _REQUEST), _IS_WRITTEN),
        # A stage that ended without a word has let the attempt pass as it was: then with nobody's credential.
        _unless("wissel.unwritten", _removing(credentials), _IS_WRITTEN, _is_there(REWRITTEN_HEADER)),
        _unless(HOLDING, _ext_proc(plan, HELD_STAGE, _ANSWER, attributes=["upstream.request_attempt_count"]), _IS_FREE),
        _removing([{"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}, {"remove": REWRITTEN_HEADER}]),
        {
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"),
        },
    ]


_REQUEST: Fields = {
    "request_header_mode": "SEND",
    "request_body_mode": "BUFFERED",
    "request_trailer_mode": "SKIP",
    "response_header_mode": "SKIP",
    "response_body_mode": "NONE",
    "response_trailer_mode": "SKIP",
}
_ANSWER: Fields = {
    "request_header_mode": "SKIP",
    "request_body_mode": "NONE",
    "request_trailer_mode": "SKIP",
    "response_header_mode": "SEND",
    # In no other mode does Envoy show the body before it knows what becomes of the headers.
    "response_body_mode": "FULL_DUPLEX_STREAMED",
    "response_trailer_mode": "SEND",
}


def _ext_proc(plan: EnvoyPlan, stage: str, mode: Fields, attributes: Sequence[str] = ()) -> Fields:
    """The filter that asks about one side of an attempt."""
    return {
        "name": "envoy.filters.http.ext_proc",
        "typed_config": typed(
            "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            grpc_service=grpc_service(stage),
            failure_mode_allow=False,
            status_on_error={"code": "ServiceUnavailable"},
            message_timeout=seconds(plan.message_timeout),
            processing_mode=mode,
            **({"response_attributes": list(attributes)} if attributes else {}),
            metadata_options={"forwarding_namespaces": {"untyped": [ATTEMPTS_NAMESPACE]}},
            mutation_rules={"disallow_is_error": True},
        ),
    }


def signed(filters: list[Fields], plan: EnvoyPlan, cluster: UpstreamCluster) -> list[Fields]:
    """The same; for AWS with a signature of what goes out, as the attempt has it by then, and no other credential."""
    if cluster.signing is None:
        return filters
    *before, codec = filters
    stale: Fields = {"remove_on_match": {"key_matcher": {"prefix": "x-amz-"}}}
    signer = typed(
        "envoy.extensions.filters.http.aws_request_signing.v3.AwsRequestSigning",
        service_name=cluster.signing.service,
        region=cluster.signing.region,
        # The host is signed too, and Envoy's router puts it there only later.
        host_rewrite=cluster.host_of(cluster.servers[0][0]),
    )
    return [
        *before,
        _removing([*({"remove": name} for name in plan.credential_headers), stale]),
        {"name": "envoy.filters.http.aws_request_signing", "typed_config": signer},
        codec,
    ]


def _removing(mutations: list[Fields]) -> Fields:
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": typed(_HEADER_MUTATION, mutations={"request_mutations": mutations}),
    }


def _header(name: str, match: Fields) -> Fields:
    source = typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name)
    return {"single_predicate": {"input": {"name": name, "typed_config": source}, "value_match": match}}


def _is_there(name: str) -> Fields:
    return _header(name, {"safe_regex": {"google_re2": {}, "regex": ".+"}})


_IS_WRITTEN: Fields = {
    "or_matcher": {"predicate": [_header(_ATTEMPT_COUNT, {"exact": "1"}), {"not_matcher": _is_there(PLAN_HEADER)}]}
}
"""Whether the decision wrote the attempt: the first, and any other of a request without a plan."""


_IS_FREE: Fields = {"not_matcher": _is_there(HELD_HEADER)}
"""Whether the answer begins when its headers are there."""


def _unless(name: str, extension: Fields, *conditions: Fields) -> Fields:
    """The filter, skipped where one of the conditions holds."""
    skip = typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")
    matchers = [
        {"predicate": condition, "on_match": {"action": {"name": "skip", "typed_config": skip}}}
        for condition in conditions
    ]
    return {
        "name": name,
        "typed_config": typed(
            "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            extension_config=extension,
            xds_matcher={"matcher_list": {"matchers": matchers}},
        ),
    }
