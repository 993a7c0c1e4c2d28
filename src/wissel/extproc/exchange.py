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

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from wissel.apis.api import Api
from wissel.apis.body import read_body
from wissel.apis.forms import models_in
from wissel.apis.packing import coding_of, unpacked
from wissel.apis.requests import understand
from wissel.apis.windows import Slices
from wissel.core.access import Principal
from wissel.core.decision import Decision, Denied, Kept, Listed, ListedAnswers, Passed, Routed
from wissel.core.feedback import Feedback, ScoreAnswer, read_feedback
from wissel.core.names import MODEL_HEADER, REQUEST_ID_HEADER
from wissel.core.outcome import Outcome
from wissel.core.refusals import crowded, late, misconfigured, too_large, trailers, unscored
from wissel.core.request import Head
from wissel.core.snapshot import Model, Terms
from wissel.errors import UnreadableError
from wissel.extproc.asides import deleted, heard
from wissel.extproc.events import (
    Decide,
    Event,
    Fail,
    Identify,
    Protocol,
    Read,
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
    is_local_reply,
)
from wissel.extproc.fitting import dropped_by
from wissel.extproc.heads import read_head, why_unread
from wissel.extproc.inquiry import Inquiry
from wissel.extproc.mutation import (
    Mutation,
    answered_headers,
    attempts_metadata,
    for_answered,
    for_denied,
    for_kept,
    for_passed,
    for_scored,
    metadata_of,
)
from wissel.extproc.objection import Objection
from wissel.extproc.onward import ReadCall, as_walked, read_call, to_model
from wissel.extproc.pieces import hand_back
from wissel.extproc.response import Response, attempts_of

_UNTOLD: Final = Protocol("buffered", "none")
"""Where Envoy does not tell its modes: those that need no telling."""

_State = Literal["new", "identifying", "reading", "understanding", "deciding", "forwarded", "refused"]


class Exchange:
    """The state of one request.

    `now` is any clock's time in seconds that never goes back; `may_ask` says whether a model's server takes the
    question for a stream's usage, `walks_plans` whether Envoy asks the next model where one fails.
    """

    __slots__ = (
        "_api",
        "_began",
        "_call",
        "_caller",
        "_chunks",
        "_ended",
        "_head",
        "_is_whole",
        "_may_ask",
        "_protocol",
        "_reads",
        "_request_id",
        "_response",
        "_size",
        "_state",
        "_terms",
        "_trailers",
        "_walks_plans",
        "decision",
    )

    def __init__(
        self,
        request_id: str,
        *,
        now: float,
        terms: Terms = Terms(),  # noqa: B008 - it is frozen
        may_ask: Callable[[Model], bool] = lambda _: True,
        walks_plans: bool = False,
    ) -> None:
        self._request_id = request_id
        self._may_ask = may_ask
        self._walks_plans = walks_plans
        self._terms = terms
        self._began = now
        self._state: _State = "new"
        self._protocol = _UNTOLD
        self._head: Head | None = None
        self._api: Api | None = None
        self._caller: Principal | None = None
        self._call: ReadCall | None = None
        self._chunks: list[bytes | bytearray] = []
        self._size = 0
        self._ended = False
        self._is_whole = False
        self._trailers = False
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
    def is_reading_body(self) -> bool:
        """Whether a body is on its way that has to be read; Envoy keeps no time of it."""
        return self._state == "reading"

    @property
    def is_deciding(self) -> bool:
        """Whether an answer of the router, or what the body says, is awaited."""
        return self._state in {"identifying", "understanding", "deciding"}

    def receive(self, event: Event, *, now: float, protocol: Protocol | None = None) -> list[Step]:
        """What to do about Envoy's next message; `protocol` comes with the stream's first."""
        if self._state == "new" and not isinstance(event, RequestHeaders) and not is_local_reply(event):
            return self._refuse(misconfigured("set processing_mode.request_header_mode to SEND"))
        if protocol is not None:
            self._protocol = protocol
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
        if isinstance(answer, Denied) or self._trailers:
            return self._refuse(answer if isinstance(answer, Denied) else trailers())
        head = self._known_head()
        self._caller = answer
        if not self._reads:
            self._state = "deciding"
            return [Decide(head, answer)]
        self._state = "reading"
        if self._is_whole:
            return self._on_whole_body()
        return [] if self._is_duplex else [Reply("request_headers")]

    def crowded(self, held_bytes: int) -> list[Step]:
        """Too many bodies of this caller are in memory to read one more."""
        assert self._caller is not None
        return self._refuse(crowded(self._caller, held_bytes))

    def late(self) -> list[Step]:
        """The body took too long; nothing to do if it is all there by now."""
        return self._refuse(late()) if self._state == "reading" else []

    def decided(self, decision: Decision) -> list[Step]:
        """Go on once the request is decided."""
        if isinstance(decision, Routed):
            decision = as_walked(decision, self._call, walks_plans=self._walks_plans)
        self.decision = decision
        match decision:
            case Denied():
                return self._refuse(decision)
            case Listed() | ListedAnswers() | Routed(counted=int()):
                self._state = "refused"
                path = self._known_head().headers[":path"]
                answer = for_answered(decision, path=path, request_id=self._request_id, api=self._api)
                return [Refuse(answer, metadata_of(decision))]
            case Passed() | Kept():
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

    @property
    def _is_duplex(self) -> bool:
        return self._protocol.request_body == "full_duplex_streamed"

    # The request's direction.

    def _on_request_headers(self, event: RequestHeaders) -> list[Step]:
        if self._state != "new":
            return [Fail("request headers came twice")]
        asked = read_head(event, self._protocol, self._terms)
        self._api, self._reads = asked.api, asked.reads
        if isinstance(asked.head, Denied):
            return self._refuse(asked.head)
        self._head = asked.head
        self._state = "identifying"
        return [Identify(asked.head)]

    def _on_request_body(self, data: bytes | bytearray, *, end_of_stream: bool) -> list[Step]:
        match self._state, self._protocol.request_body:
            case "forwarded", "full_duplex_streamed":
                return hand_back(data, end_of_stream=end_of_stream)
            case "forwarded", _:
                return [Reply("request_body")]
            case ("reading", _) | ("identifying", "full_duplex_streamed") if self._reads:
                self._size += len(data)
                if self._size > self._terms.max_body_bytes:
                    return self._refuse(too_large(self._terms.max_body_bytes))
                self._chunks.append(data)
                # Only a FULL_DUPLEX_STREAMED body comes in pieces.
                self._is_whole = end_of_stream or not self._is_duplex
                return self._on_whole_body() if self._is_whole and self._state == "reading" else []
            case (("identifying" | "deciding"), "full_duplex_streamed"):
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
        match self._state:
            case "reading" if self._is_duplex:
                return self._refuse(trailers())
            case "identifying" | "deciding" | "refused" if self._is_duplex:
                return []  # refused once the answer that is awaited is here
            case "forwarded":
                # The decision stays what it was: with it goes back what limits had given.
                return self._tell(trailers()) if self._is_duplex else [Reply("request_trailers")]
            case _:
                return [Fail(f"request trailers came while {self._state}")]

    def _on_whole_body(self) -> list[Step]:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        # A passthrough's goes on as it came; of an Envoy that has it all, nothing has to be handed back.
        self._chunks = [data] if self._is_duplex and self._known_head().kind in {"other", "kept"} else []
        self._state = "understanding"
        assert self._caller is not None
        return [Read(self._understand(data), self._caller, len(data))]

    def _understand(self, data: bytes | bytearray) -> Slices[list[Step]]:
        head = self._known_head()
        try:
            coding = coding_of(head.headers.get("content-encoding", ""))
            if coding:
                data = yield from unpacked(data, coding, self._terms.max_body_bytes)
            match head.kind:
                case "feedback":
                    assert self._caller is not None
                    steps: list[Step] = [Score(read_feedback(data), self._caller)]
                case "other" | "kept":
                    steps = yield from self._read_form(head, data)
                case _:
                    steps = yield from self._read_call(head, data, unpacked=bool(coding))
        except UnreadableError as error:
            return self._refuse(why_unread(error, self._terms.max_body_bytes))
        self._state = "deciding"
        return steps

    def _read_call(self, head: Head, data: bytes | bytearray, *, unpacked: bool) -> Slices[list[Step]]:
        assert self._api is not None
        assert self._caller is not None
        body = yield from read_body(data, self._terms.bounds)
        request = yield from understand(self._api, head.path, head.headers, body, self._terms.bounds)
        self._call = read_call(head, self._api, body, self._terms, streams=request.stream, unpacked=unpacked)
        return [Decide(request, self._caller)]

    def _read_form(self, head: Head, data: bytes | bytearray) -> Slices[list[Step]]:
        assert self._caller is not None
        named = yield from models_in(data, head.headers.get("content-type", ""), self._terms.bounds)
        if named and head.kind == "kept":
            raise UnreadableError("the body names a model; an answer is where it was made", param="model")
        self._head = replace(head, models=(*head.models, *named))
        self._ended = True
        return [Decide(self._head, self._caller)]

    def _forward(self, decision: Routed) -> list[Step]:
        # The body goes with this answer; what follows may run for minutes.
        call, self._call = self._call, None
        assert call is not None
        self._state = "forwarded"
        body = self._answers_body
        takes_it = all(each.stream_usage == "ask" and self._may_ask(each) for each in decision.candidates)
        asks = body != "never" and takes_it
        splices = call.asking_for_usage if asks else ()
        self._response = Response(
            call.api,
            Inquiry(decision, call.body),
            Objection(call.body if splices else None, call.head.headers.get(":path", "")),
            began=self._began,
            body=body,
            strip_usage=bool(splices),
            dropped=dropped_by(decision.candidates, call.body),
        )
        mutation, errand, data = to_model(
            call,
            decision,
            splices,
            self._terms,
            request_id=self._request_id,
            read_answer=body != "never",
            in_chunks=self._is_duplex,
        )
        metadata = metadata_of(decision)
        if not self._is_duplex:
            return [Reply("request_body", mutation, metadata, errand=errand)]
        steps: list[Step] = [Reply("request_headers", mutation, metadata, errand=errand)]
        return steps + hand_back(data if isinstance(data, bytes) else b"".join(data), end_of_stream=True)

    @property
    def _answers_body(self) -> Literal["comes", "on request", "never"]:
        """Whether Envoy sends the answer's body."""
        if self._protocol.response_body == "streamed":
            return "comes"
        # With a duplex body Envoy ignores each override.
        return "never" if self._is_duplex else "on request"

    def _forward_untouched(self, decision: Passed | Kept) -> list[Step]:
        if self._trailers:
            return self._tell(trailers())
        self._state = "forwarded"
        head, allow = self._known_head(), self._terms.allow_headers
        if isinstance(decision, Passed):
            mutation = for_passed(decision, headers=head.headers, allow=allow)
        else:
            assert self._api is not None
            mutation = for_kept(decision, head, self._api, allow=allow)
        if self._reads and not self._is_duplex:
            return [Reply("request_body", mutation, metadata_of(decision))]
        steps: list[Step] = [Reply("request_headers", mutation, metadata_of(decision), skip_body=True)]
        if self._chunks:
            waiting = b"".join(self._chunks)
            self._chunks.clear()
            steps += hand_back(waiting, end_of_stream=self._ended)
        return steps

    def _refuse(self, denied: Denied) -> list[Step]:
        self._call = None
        self.decision = denied
        return self._tell(denied)

    def _tell(self, denied: Denied) -> list[Step]:
        self._state = "refused"
        self._chunks.clear()
        return [Refuse(for_denied(denied, request_id=self._request_id, api=self._api), metadata_of(denied))]

    # The response's direction.

    def _on_response_headers(self, event: ResponseHeaders, now: float) -> list[Step]:
        if self._state == "new":
            # Envoy answered by itself, and there is nothing to decide any more; the answer's body may follow.
            self._state = "refused"
        ours = {REQUEST_ID_HEADER: self._request_id}
        if isinstance(self.decision, Kept):
            ours[MODEL_HEADER] = self.decision.model.name
        if self._response is None or not isinstance(self.decision, Routed):
            reserved = self.decision.reserved if isinstance(self.decision, Passed | Kept) else None
            stay = reserved is not None and reserved.holds_a_place
            reply = Reply("response_headers", Mutation(set_headers=ours), stay=stay)
            return [*deleted(self._head, event.headers.get(":status", "")), reply]
        attempts = attempts_of(self.decision, event.attributes)
        ours |= answered_headers(self.decision, attempts, self._response.dropped)
        self._response.answers(self.decision.served_after(attempts), attempts)
        opening = self._response.begin(event.headers, event.details, end_of_stream=event.end_of_stream, now=now)
        shrinks = opening.may_shrink and "content-length" in event.headers
        mutation = Mutation(set_headers=ours, remove_headers=("content-length",) if shrinks else ())
        return [
            Reply("response_headers", mutation, attempts_metadata(self.decision, attempts), read_body=opening.read_body)
        ]

    def _on_response_body(self, data: bytes, *, end_of_stream: bool, now: float) -> list[Step]:
        if self._response is None:
            return [Reply("response_body")]
        on = self._response.feed(data, end_of_stream=end_of_stream, now=now)
        changed = None if on == data else Mutation(body=on)
        reply = Reply("response_body", changed, self._response.metadata() if end_of_stream else None)
        return [*heard(self._response, self.decision), reply]

    def _on_response_trailers(self, now: float) -> list[Step]:
        if self._response is None:
            return [Reply("response_trailers")]
        self._response.end_with_trailers(now=now)
        return [*heard(self._response, self.decision), Reply("response_trailers", metadata=self._response.metadata())]

    def _known_head(self) -> Head:
        assert self._head is not None, "answered before it was asked"
        return self._head
