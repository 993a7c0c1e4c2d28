"""The filter that asks wissel: which it is, and whether a request can pass it undecided."""

from collections.abc import Iterator, Mapping
from typing import Any

from wissel.config import Config
from wissel.core.names import NAMESPACE
from wissel.doctor.dump import (
    EXT_PROC,
    ROUTER,
    Chain,
    Message,
    endpoints,
    leads_to,
    processor_cluster,
    seconds,
    shown_address,
    type_of,
)
from wissel.doctor.finding import SLACK_SECONDS, SMALL_BODY, Finding, checked, is_long
from wissel.envoy import PROCESSOR_CLUSTER, message_timeout, override_modes, verified_namespace
from wissel.envoy.plans import MEBIBYTE


def filter_of(chain: Chain, known: Mapping[str, Message], config: Config) -> Message | None:
    """The chain's ext_proc filter that asks wissel, as it stands before the router; None without one."""
    before_router: list[Message] = []
    for each in chain.filters:
        if type_of(each) == ROUTER:
            break
        if type_of(each) == EXT_PROC and not each.get("disabled"):
            before_router.append(each["typed_config"])
    ours = [each for each in before_router if _asks_us(each, known, config)]
    # Under another name, at an address that the file does not know: if there is one only, it is meant.
    return ours[0] if ours else before_router[0] if len(before_router) == 1 else None


def _asks_us(found: Message, known: Mapping[str, Message], config: Config) -> bool:
    name = processor_cluster(found)
    addresses = {shown_address(each) for each in endpoints(known.get(name, {}))}
    return name == PROCESSOR_CLUSTER or bool(addresses & set(config.processors))


def inspect_filter(chain: Chain, found: Message, config: Config) -> Iterator[Finding]:
    where = chain.name
    yield Finding("filter", "ok", f"{where} asks wissel before it routes")
    if found.get("failure_mode_allow"):
        yield fails_open(where)
    else:
        yield Finding("failure_mode_allow", "ok", "a request that was not decided is refused")
    yield checked(
        "observability_mode",
        not found.get("observability_mode"),
        "Envoy waits for wissel's answers",
        f"{where}: Envoy shows wissel its requests and waits for no answer",
        "remove observability_mode",
    )
    yield checked(
        "disable_immediate_response",
        not found.get("disable_immediate_response"),
        "wissel may refuse a request itself",
        f"{where}: each of wissel's refusals becomes an error of Envoy's",
        "remove disable_immediate_response",
    )
    yield from _inspect_clocks(where, found, config)
    yield from inspect_mode(where, found.get("processing_mode", {}))
    yield from _inspect_mode_override(where, found)
    kept = not found.get("disable_clear_route_cache") and found.get("route_cache_action") != "RETAIN"
    yield checked(
        "clear_route_cache",
        kept,
        "a decision chooses the route anew",
        f"{where}: the route is kept as it was before wissel decided",
        "remove disable_clear_route_cache, and leave route_cache_action at DEFAULT",
    )
    yield from _inspect_metadata(where, found.get("metadata_options", {}), config)
    yield checked(
        "response_attributes",
        "response.code_details" in found.get("response_attributes", []),
        "wissel can tell a model's errors from Envoy's",
        f"{where}: wissel is not told where an error comes from, and blames models for errors of Envoy",
        "add response.code_details to response_attributes",
    )
    yield checked(
        "retry_policy",
        "retry_policy" in found.get("grpc_service", {}),
        "a stream that one processor does not take goes to another",
        f"{where}: a stream that one processor does not take is an error, though another could serve it",
        "give grpc_service the retry_policy of `wissel envoy`",
        severity="warning",
    )


def _inspect_metadata(where: str, options: Message, config: Config) -> Iterator[Finding]:
    yield checked(
        "metadata",
        NAMESPACE in options.get("receiving_namespaces", {}).get("untyped", []),
        "decisions reach the access log",
        f"{where}: Envoy drops what wissel tells about its decisions",
        f"add {NAMESPACE} to metadata_options.receiving_namespaces.untyped",
        severity="warning",
    )
    if (needed := verified_namespace(config)) is not None:
        yield checked(
            "verified_identity",
            needed in options.get("forwarding_namespaces", {}).get("untyped", []),
            "identities that Envoy has verified reach wissel",
            f"{where}: wissel is not shown {needed}, where access.envoy_identity looks for callers",
            f"add {needed} to metadata_options.forwarding_namespaces.untyped",
        )


def fails_open(where: str) -> Finding:
    return Finding(
        "failure_mode_allow",
        "problem",
        f"{where}: with wissel away, requests go on undecided and past every access rule",
        "set failure_mode_allow to false",
    )


def _inspect_clocks(where: str, found: Message, config: Config) -> Iterator[Finding]:
    needed = config.intent.deadline_ms / 1000
    message = seconds(found.get("message_timeout", "0.2s"))
    streamed = found.get("processing_mode", {}).get("request_body_mode") == "FULL_DUPLEX_STREAMED"
    yield checked(
        "message_timeout",
        streamed or message >= needed + SLACK_SECONDS,
        "Envoy waits longer for an answer than wissel for its classifier",
        f"{where}: Envoy waits {message:g} s for an answer; the classifier alone may take {needed:g} s",
        f"set message_timeout to {message_timeout(config):g}s (without one it is 0.2 s)",
        severity="warning" if message > needed else "problem",
    )
    stream = seconds(found.get("grpc_service", {}).get("timeout", "0s"))
    yield checked(
        "grpc_timeout",
        is_long(stream),
        "no clock bounds the call to wissel",
        f"{where}: the call to wissel ends after {stream:g} s, and with it a longer answer",
        "leave grpc_service.timeout out",
    )


def inspect_mode(where: str, mode: Message) -> Iterator[Finding]:
    allowed: dict[str, tuple[tuple[str, ...], str]] = {
        "request_header_mode": (("DEFAULT", "SEND"), "wissel does not see who asks for what"),
        "request_body_mode": (("BUFFERED", "FULL_DUPLEX_STREAMED"), "wissel cannot decide on this form of a body"),
        "response_header_mode": (("DEFAULT", "SEND"), "wissel does not see how models do"),
        "response_body_mode": (("NONE", "STREAMED"), "answers are held back or cannot be read"),
    }
    for name, (good, trouble) in allowed.items():
        value = mode.get(name, "NONE" if "body" in name else "DEFAULT")
        yield checked(
            name,
            value in good,
            f"{name} is {value}",
            f"{where}: {name} is {value}, and {trouble}",
            f"set processing_mode.{name} to {' or '.join(each for each in good if each != 'DEFAULT')}",
        )


def _inspect_mode_override(where: str, found: Message) -> Iterator[Finding]:
    if found.get("processing_mode", {}).get("request_body_mode") == "FULL_DUPLEX_STREAMED":
        return
    listed = [_comparable(mode) for mode in found.get("allowed_override_modes", [])]
    missing = [mode for mode in map(_comparable, override_modes()) if listed and mode not in listed]
    may = found.get("allow_mode_override") and not found.get("send_body_without_waiting_for_header_response")
    yield checked(
        "mode_override",
        bool(may) and not missing,
        "wissel may choose for each request what it reads",
        f"{where}: Envoy ignores wissel's wish to read more, or less, of one request",
        "set allow_mode_override to true, with the allowed_override_modes of `wissel envoy`",
        severity="warning",
    )


def _comparable(mode: Message) -> dict[str, Any]:
    """As Envoy compares: without the mode of request headers, and defaults written out."""
    bodies = dict.fromkeys(("request_body_mode", "response_body_mode"), "NONE")
    return {key: value for key, value in {**bodies, **mode}.items() if key != "request_header_mode"}


def inspect_buffer(chain: Chain, found: Message, wanted: set[str]) -> Iterator[Finding]:
    if found.get("processing_mode", {}).get("request_body_mode") == "FULL_DUPLEX_STREAMED":
        return
    of_listener = int(chain.listener.get("per_connection_buffer_limit_bytes", MEBIBYTE))
    limits = [_body_limit(host, route) or of_listener for host, route in chain.routes if leads_to(route, wanted)]
    yield checked(
        "buffer_limit",
        min(limits) >= SMALL_BODY,
        f"requests of up to {min(limits) / MEBIBYTE:g} MiB are taken",
        f"{chain.name}: a request of more than {min(limits) / MEBIBYTE:g} MiB is refused before wissel has read it",
        f"set the route's request_body_buffer_limit to {32 * MEBIBYTE}",
        severity="warning",
    )


def _body_limit(host: Message, route: Message) -> int:
    names = ("request_body_buffer_limit", "per_request_buffer_limit_bytes")
    return next((int(level[name]) for level in (route, host) for name in names if name in level), 0)
