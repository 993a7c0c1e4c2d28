"""A body that is handed back to Envoy in pieces, as FULL_DUPLEX_STREAMED has it."""

from typing import Final, Literal

from wissel.extproc.events import Reply, Step

CHUNK_BYTES: Final = 62_000
"""Of a piece: some data planes cap a chunk at 64 KiB."""


def hand_back(
    data: bytes | bytearray, *, end_of_stream: bool, phase: Literal["request_body", "response_body"] = "request_body"
) -> list[Step]:
    """Its next bytes."""
    pieces = [bytes(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)] or [b""]
    last = len(pieces) - 1
    return [
        Reply(phase, chunk=piece, end_of_stream=end_of_stream and index == last) for index, piece in enumerate(pieces)
    ]
