"""A request's headers become its `Head`, or the refusal that they earn, before anything of its body is there.

What the call is, which API it speaks and whether its body has to be read are
told by method and path alone; whatever could be read in two ways is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from wissel.apis.api import Api
from wissel.apis.listing import page_asked
from wissel.apis.models import MODELS_PATH
from wissel.apis.packing import ACCEPTED
from wissel.apis.paths import LONGEST, check_call, is_plain, named_in_query, normalise_path, spelled_path
from wissel.apis.places import named_in_path
from wissel.apis.table import PATHS, kept_at, listed_at, spoken
from wissel.core.affinity import MadeId
from wissel.core.decision import Denied
from wissel.core.feedback import FEEDBACK_PATH
from wissel.core.policy import lies_below, passthrough_for
from wissel.core.refusals import misconfigured, no_cors, no_upgrade, too_large, unknown_path, unread_coding, unreadable
from wissel.core.request import Head
from wissel.core.snapshot import Terms
from wissel.errors import TooLargeError, UnreadableError, UnsupportedCodingError
from wissel.extproc.events import Protocol, RequestHeaders


@dataclass(frozen=True, slots=True)
class Asked:
    """What the headers say."""

    head: Head | Denied
    api: Api | None = None
    """Of an LLM call, refused or not; of anything else the one that its caller speaks, as far as that is known."""
    reads: bool = False
    """Whether the body has to be read before the request is decided."""


def read_head(event: RequestHeaders, protocol: Protocol, terms: Terms) -> Asked:
    """What is asked, by the rules of `terms`; `protocol` must be able to serve it."""
    headers, is_empty = event.headers, event.end_of_stream
    raw_path = headers.get(":path", "")
    method = headers.get(":method", "")
    if len(raw_path.partition("?")[0]) > LONGEST:
        return Asked(unknown_path(method, raw_path))
    path = normalise_path(raw_path)
    upgrade = "upgrade" in headers or method == "CONNECT"
    api = PATHS.get(path) if method == "POST" and not upgrade else None

    speaks = PATHS.get(path) or spoken(path, headers)

    def head(kind: Literal["llm", "feedback", "other"], models: tuple[str, ...] = ()) -> Head:
        name = None if api is None else api.name
        carries = upgrade or not is_empty
        return Head(kind, method, path, headers, name, models, event.attributes, event.metadata, carries)

    if upgrade and not (is_plain(raw_path) and lies_below(path, terms.upgrades)):
        return Asked(no_upgrade(), speaks)
    if not upgrade and (refusal := _unserved(protocol, method, path, headers)):
        return Asked(refusal, speaks)
    try:
        if api is not None:
            check_call(raw_path, headers.get("content-type", ""), terms.bounds)
            return Asked(_with_body(head("llm")), api, reads=True)
        if method == "POST" and path == FEEDBACK_PATH:
            return Asked(_with_body(head("feedback")), speaks, reads=True)
        named = (*named_in_path(raw_path), *named_in_query(raw_path, terms.bounds))
    except UnreadableError as unclear:
        return Asked(unreadable(unclear), speaks)
    return _beside_calls(head("other", named), speaks, raw_path, terms)


def _beside_calls(head: Head, speaks: Api | None, raw_path: str, terms: Terms) -> Asked:
    """What is asked of something that is no call of a model."""
    method, path = head.method, head.path
    if method in {"GET", "HEAD"} and (path == MODELS_PATH or path.startswith(MODELS_PATH + "/")):
        return Asked(replace(head, kind="models", models=()), speaks)
    if not is_plain(raw_path):
        return Asked(unknown_path(method, path), speaks)
    upgrade = "upgrade" in head.headers or method == "CONNECT"
    if not upgrade and (about := kept_at(method, spelled_path(raw_path))):
        return _about_kept(replace(head, kind="kept"), *about)
    if not upgrade and (listing := listed_at(method, path)):
        return _about_list(replace(head, kind="kept", api=listing.name, call_path=path), listing, raw_path)
    entry = passthrough_for(terms.passthrough, path) if head.carries and not upgrade else None
    return Asked(head, speaks, reads=entry is not None and entry.reads_models)


def _about_kept(head: Head, api: Api, made: MadeId) -> Asked:
    if head.models:
        return Asked(unreadable(UnreadableError("the query names a model; an answer is where it was made")), api)
    return Asked(replace(head, api=api.name, about=made, call_path=api.paths[0]), api, reads=head.carries)


def _about_list(head: Head, api: Api, raw_path: str) -> Asked:
    try:
        page_asked(raw_path)
    except UnreadableError as unclear:
        return Asked(unreadable(unclear), api)
    return Asked(head, api)


def _with_body(head: Head) -> Head:
    if not head.carries:
        raise UnreadableError("the body is empty; send a JSON object")
    return head


def _unserved(protocol: Protocol, method: str, path: str, headers: Mapping[str, str]) -> Denied | None:
    """Why nothing of the kind can be served here, whoever asks."""
    if complaint := _complaint(protocol):
        return misconfigured(complaint)
    asked = headers.get("access-control-request-method") if method == "OPTIONS" else None
    if asked is not None and (path in PATHS or path == MODELS_PATH or kept_at(asked, path)):
        return no_cors(headers.get("origin", ""))
    return None


def _complaint(protocol: Protocol) -> str:
    """What is wrong with the filter's modes for bodies; empty if they can be served."""
    request, response = protocol.request_body, protocol.response_body
    if request not in {"buffered", "full_duplex_streamed"}:
        return f"processing_mode.request_body_mode is {request.upper()}; set it to BUFFERED or FULL_DUPLEX_STREAMED"
    if response not in {"none", "streamed"}:
        return f"processing_mode.response_body_mode is {response.upper()}; set it to NONE or STREAMED"
    return ""


def why_unread(error: UnreadableError, most_bytes: int) -> Denied:
    """What to say of a body that cannot be read; `most_bytes` is how large one may be."""
    match error:
        case UnsupportedCodingError():
            return unread_coding(error, ACCEPTED)
        case TooLargeError():
            return too_large(most_bytes)
        case _:
            return unreadable(error)
