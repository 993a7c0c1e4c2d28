"""One HTTP request as Envoy tells it, without any I/O.

Envoy's messages go in as events, and what is to be done comes out as steps: a
reply, a refusal, a question to the router, an end. The state machine knows the
rules of ext_proc that a processor can break:

* every message is answered exactly once, in the order headers, body, trailers;
* with a FULL_DUPLEX_STREAMED body the headers are answered only when the
  decision is made, and every byte of the body is handed back in chunks;
* nothing that is undecided is ever answered with CONTINUE once its body is in.

The request's direction and the response's are independent of each other; the
response to a routed request has a state of its own, `response.Response`.
"""

from dataclasses import replace
from functools import partial
from typing import Final, Literal

from wissel.apis.api import Api
from wissel.apis.body import Body, Splice, read_body
from wissel.apis.encoding import asked_away
from wissel.apis.forms import models_in
from wissel.apis.models import MODELS_PATH
from wissel.apis.paths import ambiguity, is_plain, named_in_query, normalise_path
from wissel.apis.requests import understand
from wissel.apis.table import PATHS
from wissel.core.access import Principal
from wissel.core.decision import Decision, Denied, Listed, Passed, Routed
from wissel.core.feedback import FEEDBACK_PATH, Feedback, ScoreAnswer, read_feedback
from wissel.core.names import MODEL_HEADER, REQUEST_ID_HEADER
from wissel.core.outcome import Outcome
from wissel.core.policy import lies_below, passthrough_for
from wissel.core.refusals import (
    late,
    misconfigured,
    no_upgrade,
    quoted,
    too_large,
    unknown_path,
    unreadable,
    unscored,
)
from wissel.core.request import Head
from wissel.core.snapshot import Terms
from wissel.errors import UnreadableError
from wissel.extproc.events import (
    BodyMode,
    Decide,
    Event,
    Fail,
    Identify,
    Protocol,
    Refuse,
    Reply,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Score,
    Step,
)
from wissel.extproc.mutation import (
    Mutation,
    for_denied,
    for_listed,
    for_passed,
    for_routed,
    for_scored,
    metadata_of,
)
from wissel.extproc.response import Response

CHUNK_BYTES: Final = 62_000
"""Of a body handed back in pieces: some data planes cap a chunk at 64 KiB."""


_State = Literal["new", "identifying", "reading", "deciding", "forwarded", "refused"]


class Exchange:
    """The state of one request. `now` is any clock's time in seconds that never goes back."""

    __slots__ = (
        "_api",
        "_began",
        "_body",
        "_caller",
        "_chunks",
        "_ended",
        "_head",
        "_mode",
        "_reads",
        "_request_id",
        "_response",
        "_response_mode",
        "_size",
        "_state",
        "_streams",
        "_terms",
        "_trailers",
        "decision",
    )

    def __init__(self, request_id: str, *, now: float, terms: Terms = Terms()) -> None:  # noqa: B008 - it is frozen
        self._request_id = request_id
        self._terms = terms
        self._began = now
        self._state: _State = "new"
        self._mode: BodyMode = "buffered"
        self._response_mode: BodyMode = "none"
        self._head: Head | None = None
        self._api: Api | None = None
        self._caller: Principal | None = None
        self._body: Body | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._ended = False
        self._trailers = False
        self._streams = False
        self._reads = False
        self._response: Response | None = None
        self.decision: Decision | None = None

    @property
    def outcome(self) -> Outcome | None:
        """What became of a routed request; None as long as it goes on."""
        return self._response.outcome if self._response is not None else None

    @property
    def is_settled(self) -> bool:
        """Whether the request was decided and answered; until then the stream must not end cleanly."""
        return self._state in {"forwarded", "refused"}

    @property
    def is_reading(self) -> bool:
        """Whether a FULL_DUPLEX_STREAMED body is on its way, with no clock of Envoy's on it."""
        return self._state == "reading" and self._mode == "full_duplex_streamed"

    @property
    def is_deciding(self) -> bool:
        """Whether an answer of the router is awaited."""
        return self._state == "deciding"

    def receive(self, event: Event, *, now: float, protocol: Protocol | None = None) -> list[Step]:
        """What to do about Envoy's next message; `protocol` comes with the stream's first."""
        if self._state == "new" and not isinstance(event, RequestHeaders) and not _is_local_reply(event):
            return self._refuse(misconfigured("set processing_mode.request_header_mode to SEND"))
        if protocol is not None:
            self._mode = protocol.request_body
            self._response_mode = protocol.response_body
        match event:
            case RequestHeaders():
                return self._on_request_headers(event)
            case RequestBody(data, end_of_stream):
                return self._on_request_body(data, end_of_stream=end_of_stream)
            case RequestTrailers():
                return self._on_request_trailers()
            case ResponseHeaders():
                return self._on_response_headers(event, now)
            case ResponseBody(data, end_of_stream):
                return self._on_response_body(data, end_of_stream=end_of_stream, now=now)
            case ResponseTrailers():
                return self._on_response_trailers(now)

    def identified(self, answer: Principal | Denied) -> list[Step]:
        """Go on once the caller is known."""
        if isinstance(answer, Denied):
            return self._refuse(answer)
        head = self._known_head()
        self._caller = answer
        if not self._reads:
            self._state = "deciding"
            return [Decide(head, answer)]
        self._state = "reading"
        return [] if self._mode == "full_duplex_streamed" else [Reply("request_headers")]

    def late(self) -> list[Step]:
        """The body took too long; nothing to do if it is all there by now."""
        return self._refuse(late()) if self._state == "reading" else []

    def decided(self, decision: Decision) -> list[Step]:
        """Go on once the request is decided."""
        self.decision = decision
        match decision:
            case Denied():
                return self._refuse(decision)
            case Listed():
                self._state = "refused"
                answer = for_listed(decision, path=self._known_head().path, request_id=self._request_id)
                return [Refuse(answer, metadata_of(decision))]
            case Passed():
                return self._forward_untouched(decision)
            case Routed():
                return self._forward(decision)

    def scored(self, feedback: Feedback, answer: ScoreAnswer) -> list[Step]:
        """Tell the caller what became of its feedback; no model hears of it."""
        if refusal := unscored(answer, feedback.request_id):
            return self._refuse(refusal)
        self._state = "refused"
        assert self._caller is not None
        return [Refuse(for_scored(request_id=self._request_id), {"principal": self._caller.id})]

    @property
    def override_worked(self) -> bool:
        """Whether Envoy sent the response's body because it was asked to."""
        return self._response is not None and self._response.got_what_it_asked_for

    def closed(self, *, now: float, override_works: bool) -> None:
        """Envoy has ended the stream; what was seen until now is the outcome.

        Where an answer's body never came although it was asked for, only `override_works`, which is whether any such
        body ever came, tells a caller who left from an Envoy that does not allow the override.
        """
        if self._response is not None:
            self._response.close(now=now, override_works=override_works)

    # The request's direction.

    def _on_request_headers(self, event: RequestHeaders) -> list[Step]:
        if self._state != "new":
            return [Fail("request headers came twice")]
        headers = event.headers
        raw_path = headers.get(":path", "")
        method = headers.get(":method", "")
        path = normalise_path(raw_path)
        wants_upgrade = "upgrade" in headers or method == "CONNECT"
        if wants_upgrade and not (is_plain(raw_path) and lies_below(path, self._terms.upgrades)):
            return self._refuse(no_upgrade())
        if not wants_upgrade and (complaint := _complaint(self._mode, self._response_mode)):
            return self._refuse(misconfigured(complaint))
        self._api = PATHS.get(path) if method == "POST" and not wants_upgrade else None
        if self._api is not None:
            self._head = Head("llm", method, path, headers, self._api.name)
            self._reads = True
            if unclear := ambiguity(raw_path, headers.get("content-type", "")):
                return self._refuse(unreadable(unclear))
            if event.end_of_stream:
                return self._refuse(unreadable(UnreadableError("the body is empty; send a JSON object")))
        elif method == "POST" and path == FEEDBACK_PATH:
            self._head = Head("feedback", method, path, headers)
            self._reads = True
            if event.end_of_stream:
                return self._refuse(unreadable(UnreadableError("the body is empty; send a JSON object")))
        elif method == "GET" and (path == MODELS_PATH or path.startswith(MODELS_PATH + "/")):
            self._head = Head("models", method, path, headers)
        elif is_plain(raw_path):
            self._head = Head("other", method, path, headers, models=tuple(named_in_query(raw_path)))
            entry = None if wants_upgrade or event.end_of_stream else passthrough_for(self._terms.passthrough, path)
            self._reads = entry is not None and entry.reads_models
        else:
            return self._refuse(unknown_path(method, path))
        self._head = replace(self._head, attributes=event.attributes, metadata=event.metadata)
        self._state = "identifying"
        return [Identify(self._head)]

    def _on_request_body(self, data: bytes, *, end_of_stream: bool) -> list[Step]:
        match self._state, self._mode:
            case "forwarded", "full_duplex_streamed":
                return self._hand_back(data, end_of_stream=end_of_stream)
            case "forwarded", _:
                return [Reply("request_body")]
            case "reading", _:
                self._size += len(data)
                if self._size > self._terms.max_body_bytes:
                    self._chunks.clear()
                    return self._refuse(too_large(self._terms.max_body_bytes))
                self._chunks.append(data)
                # Only a FULL_DUPLEX_STREAMED body comes in pieces.
                is_whole = end_of_stream or self._mode != "full_duplex_streamed"
                return self._on_whole_body() if is_whole else []
            case "deciding", "full_duplex_streamed":
                # A passthrough that is still being decided: its body waits.
                self._chunks.append(data)
                self._ended = end_of_stream
                return []
            case "refused", "full_duplex_streamed":
                # Sent before the refusal arrived.
                return []
            case _:
                return [Fail(f"a request body came while {self._state}")]

    def _on_request_trailers(self) -> list[Step]:
        self._trailers = True
        match self._state, self._mode:
            case "reading", "full_duplex_streamed":
                return self._on_whole_body()
            case (("deciding" | "refused"), "full_duplex_streamed"):
                return []
            case "forwarded", _:
                return [Reply("request_trailers")]
            case _:
                return [Fail(f"request trailers came while {self._state}")]

    def _on_whole_body(self) -> list[Step]:
        head = self._known_head()
        if (encoding := head.headers.get("content-encoding", "identity")) != "identity":
            unsupported = f"the content-encoding {quoted(encoding)} is not supported; send the body as it is"
            return self._refuse(unreadable(UnreadableError(unsupported)))
        try:
            if head.kind == "feedback":
                self._state = "deciding"
                return [Score(read_feedback(b"".join(self._chunks)))]
            if head.kind == "other":
                return self._on_whole_form()
            assert self._api is not None
            self._body = read_body(b"".join(self._chunks))
            request = understand(self._api, head.path, head.headers, self._body)
        except UnreadableError as error:
            return self._refuse(unreadable(error))
        self._streams = request.stream
        self._chunks.clear()
        self._state = "deciding"
        assert self._caller is not None
        return [Decide(request, self._caller)]

    def _on_whole_form(self) -> list[Step]:
        head = self._known_head()
        named = models_in(b"".join(self._chunks), head.headers.get("content-type", ""))
        self._head = replace(head, models=(*head.models, *named))
        self._state = "deciding"
        self._ended = not self._trailers
        assert self._caller is not None
        return [Decide(self._head, self._caller)]

    def _forward(self, decision: Routed) -> list[Step]:
        head, api, body = self._known_head(), self._api, self._body
        assert body is not None
        assert api is not None
        self._state = "forwarded"
        splices = self._expect_response(decision, api, body)
        also: dict[str, str] = {}
        if self._reads_response and (accepted := head.headers.get("accept-encoding")) is not None:
            also["accept-encoding"] = asked_away(accepted, stream=self._streams)
        if head.headers.get(":path") != head.path:
            # One spelling for all: what the rules were asked about is what the upstream gets.
            also[":path"] = _canonical(head)
        upstream = decision.model.upstream_model
        data = body.with_model(upstream, *splices) if upstream != body.model or splices else None
        change = partial(for_routed, decision, api=api, headers=head.headers, allow=self._terms.allow_headers)
        metadata = metadata_of(decision)
        if self._mode == "full_duplex_streamed":
            mutation = change(also=also, without=("content-length",))
            whole = data if data is not None else body.text.encode()
            steps: list[Step] = [Reply("request_headers", mutation, metadata)]
            steps += self._hand_back(whole, end_of_stream=not self._trailers)
            return [*steps, Reply("request_trailers")] if self._trailers else steps
        if data is not None and "content-length" in head.headers:
            also["content-length"] = str(len(data))
        return [Reply("request_body", change(also=also, body=data), metadata)]

    @property
    def _reads_response(self) -> bool:
        # With a duplex body Envoy ignores each override.
        return self._response_mode == "streamed" or self._mode != "full_duplex_streamed"

    def _expect_response(self, decision: Routed, api: Api, body: Body) -> tuple[Splice, ...]:
        """Get ready to read the response; what the request must say so that it can be read."""
        on_ask = api.usage_on_ask if self._reads_response and self._streams else None
        splices = on_ask.ask(body) if on_ask is not None else ()
        self._response = Response(
            decision.model,
            api,
            began=self._began,
            body="comes" if self._response_mode == "streamed" else "on request" if self._reads_response else "never",
            strip_usage=bool(splices),
        )
        return splices

    def _forward_untouched(self, decision: Passed) -> list[Step]:
        self._state = "forwarded"
        mutation = for_passed(decision, headers=self._known_head().headers, allow=self._terms.allow_headers)
        if self._reads and self._mode != "full_duplex_streamed":
            return [Reply("request_body", mutation, metadata_of(decision))]
        steps: list[Step] = [Reply("request_headers", mutation, metadata_of(decision), skip_body=True)]
        if self._chunks:
            waiting = b"".join(self._chunks)
            self._chunks.clear()
            steps += self._hand_back(waiting, end_of_stream=self._ended)
        return [*steps, Reply("request_trailers")] if self._trailers else steps

    def _hand_back(self, data: bytes, *, end_of_stream: bool) -> list[Step]:
        pieces = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)] or [b""]
        last = len(pieces) - 1
        return [
            Reply("request_body", chunk=piece, end_of_stream=end_of_stream and index == last)
            for index, piece in enumerate(pieces)
        ]

    def _refuse(self, denied: Denied) -> list[Step]:
        self._state = "refused"
        self.decision = denied
        return [Refuse(for_denied(denied, request_id=self._request_id, api=self._api), metadata_of(denied))]

    # The response's direction.

    def _on_response_headers(self, event: ResponseHeaders, now: float) -> list[Step]:
        if self._state == "new":
            # Envoy answered by itself, and there is nothing to decide any more; the answer's body may follow.
            self._state = "refused"
        ours = {REQUEST_ID_HEADER: self._request_id}
        if self._response is None or not isinstance(self.decision, Routed):
            return [Reply("response_headers", Mutation(set_headers=ours))]
        ours[MODEL_HEADER] = self.decision.model.name
        details = event.attributes.get("response.code_details", "")
        opening = self._response.begin(event.headers, details, end_of_stream=event.end_of_stream, now=now)
        shrinks = opening.may_shrink and "content-length" in event.headers
        mutation = Mutation(set_headers=ours, remove_headers=("content-length",) if shrinks else ())
        return [Reply("response_headers", mutation, read_body=opening.read_body)]

    def _on_response_body(self, data: bytes, *, end_of_stream: bool, now: float) -> list[Step]:
        if self._response is None:
            return [Reply("response_body")]
        on = self._response.feed(data, end_of_stream=end_of_stream, now=now)
        changed = None if on == data else Mutation(body=on)
        return [Reply("response_body", changed, self._response.metadata() if end_of_stream else None)]

    def _on_response_trailers(self, now: float) -> list[Step]:
        if self._response is None:
            return [Reply("response_trailers")]
        self._response.end_with_trailers(now=now)
        return [Reply("response_trailers", metadata=self._response.metadata())]

    def _known_head(self) -> Head:
        assert self._head is not None, "answered before it was asked"
        return self._head


def _canonical(head: Head) -> str:
    query = head.headers.get(":path", "").partition("?")[2]
    return f"{head.path}?{query}" if query else head.path


def _is_local_reply(event: Event) -> bool:
    """Whether Envoy answered by itself before any filter saw the request, as it does to an upgrade."""
    details = event.attributes.get("response.code_details") if isinstance(event, ResponseHeaders) else None
    return bool(details) and details != "via_upstream"


def _complaint(request: BodyMode, response: BodyMode) -> str:
    """What is wrong with the filter's modes for bodies; empty if they can be served."""
    if request not in {"buffered", "full_duplex_streamed"}:
        return f"processing_mode.request_body_mode is {request.upper()}; set it to BUFFERED or FULL_DUPLEX_STREAMED"
    if response not in {"none", "streamed"}:
        return f"processing_mode.response_body_mode is {response.upper()}; set it to NONE or STREAMED"
    return ""
