"""How a request goes on: a call as its model wants it, and a body that is handed back in chunks."""

from dataclasses import dataclass, replace
from typing import Final

from wissel.apis.api import Api
from wissel.apis.body import Body, Splice, Written, size_of
from wissel.apis.encoding import asked_away
from wissel.core.decision import Routed
from wissel.core.request import Head
from wissel.extproc.events import Reply, Step
from wissel.extproc.mutation import Mutation, for_routed
from wissel.extproc.upstream import path_for

CHUNK_BYTES: Final = 62_000
"""Of a body handed back in pieces: some data planes cap a chunk at 64 KiB."""


@dataclass(frozen=True, slots=True)
class ReadCall:
    """An LLM call whose body was read."""

    head: Head
    api: Api
    body: Body
    """Without its members, which take a multiple of its bytes."""
    streams: bool
    """Whether the caller wants the answer as a stream."""
    unpacked: bool
    """Whether the caller sent it in a content coding."""
    asking_for_usage: tuple[Splice, ...]
    """What makes its stream tell its usage; nothing where it does so unasked."""


def read_call(head: Head, api: Api, body: Body, *, streams: bool, unpacked: bool) -> ReadCall:
    """What has to be kept of a call whose body was understood."""
    on_ask = api.usage_on_ask if streams else None
    ask = () if on_ask is None else on_ask.ask(body)
    return ReadCall(head, api, replace(body, members={}), streams, unpacked, ask)


def to_model(
    call: ReadCall,
    decision: Routed,
    splices: tuple[Splice, ...],
    *,
    allow: frozenset[str],
    read_answer: bool,
    in_chunks: bool,
) -> tuple[Mutation, Written]:
    """The call for the model that was decided: what changes, and its whole body.

    With `read_answer` the answer is asked for in a coding that can be read; with `in_chunks` the body is not part of
    the mutation.
    """
    head, body = call.head, call.body
    also: dict[str, str] = {}
    if read_answer and (accepted := head.headers.get("accept-encoding")) is not None:
        also["accept-encoding"] = asked_away(accepted, stream=call.streams)
    # One spelling for all: what the rules were asked about is what the upstream gets.
    if (path := path_for(decision.model, _canonical(head))) != head.headers.get(":path"):
        also[":path"] = path
    upstream = decision.model.upstream_model
    data = body.with_model(upstream, *splices) if upstream != body.model or splices or call.unpacked else None
    if data is not None and not in_chunks and "content-length" in head.headers:
        also["content-length"] = str(size_of(data))
    mutation = for_routed(
        decision,
        api=call.api,
        headers=head.headers,
        allow=allow,
        also=also,
        without=(*(["content-length"] if in_chunks else []), *(["content-encoding"] if call.unpacked else [])),
        body=None if in_chunks else data,
    )
    return mutation, (memoryview(body.data),) if data is None else data


def _canonical(head: Head) -> str:
    query = head.headers.get(":path", "").partition("?")[2]
    return f"{head.path}?{query}" if query else head.path


def hand_back(data: bytes | bytearray, *, end_of_stream: bool) -> list[Step]:
    """A FULL_DUPLEX_STREAMED body, in pieces."""
    pieces = [bytes(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)] or [b""]
    last = len(pieces) - 1
    return [
        Reply("request_body", chunk=piece, end_of_stream=end_of_stream and index == last)
        for index, piece in enumerate(pieces)
    ]
