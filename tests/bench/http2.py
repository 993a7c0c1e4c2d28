"""What HTTP/2 costs an exchange: our own state machine, and the h2 library behind the same `Listener`.

    python -m tests.bench.http2 [--exchanges 200] [--rounds 20] [--json]

Envoy's side of a connection is written down once, frame by frame: of each
stream its headers, three messages and its end. The same bytes then go through
either, in turns, and the same handler answers each message. h2 is played twice,
as it comes and with every check of headers off. CPU of this thread, medians
over rounds; a ratio is of one round, where both had the same machine.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from time import thread_time
from typing import Final, Protocol, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame
from rich.console import Console
from rich.table import Table

from wissel.grpc.frames import Deframer, frame
from wissel.grpc.http2 import CONNECTION_WINDOW, Headers, Http2
from wissel.grpc.requests import RequestHead
from wissel.grpc.streams import STREAM_WINDOW, Listener, Stream

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ASKED: Final = [
    (":method", "POST"),
    (":path", "/envoy.service.ext_proc.v3.ExternalProcessor/Process"),
    (":scheme", "http"),
    (":authority", "wissel"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
"""What Envoy opens each stream with."""
RESPONSE: Final = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS: Final = [(b"grpc-status", b"0")]
WINDOW: Final = 1 << 24
"""That the client grants, as Envoy does, so that no answer waits."""

MAX_STREAMS: Final = 4096
MAX_HEADER_BYTES: Final = 64 << 10
MAX_MESSAGE_BYTES: Final = 1 << 20

FRAME_BYTES: Final = 16_384
"""Of a frame at the most: the default, which Envoy keeps to."""

HEADERS_BYTES: Final = 900
"""Of Envoy's message with a request's headers, about."""
ANSWER_BYTES: Final = 300
"""Of an answer that changes headers, about."""


class Engine(Protocol):
    """What the handler needs of HTTP/2."""

    streams: Final[dict[int, Stream]]
    initial_window: int

    def begin(self) -> None: ...
    def receive(self, data: bytes) -> None: ...
    def send_headers(self, stream: Stream, headers: Headers, *, end: bool = False) -> None: ...
    def send_data(self, stream: Stream, data: bytes) -> None: ...
    def close(self, stream: Stream) -> None: ...
    def take(self) -> bytes: ...


class Handler:
    """Takes every stream, answers each message at once, and ends a stream when its peer does."""

    engine: Engine

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers: Final = answers
        self._deframers: Final[dict[int, Deframer]] = {}
        self._turns: Final[dict[int, int]] = {}
        self.heard = 0
        """Messages."""
        self.over = 0
        """Streams."""

    def opened(self, stream_id: int, request: RequestHead) -> None:
        self.engine.streams[stream_id] = Stream(stream_id, self.engine.initial_window)
        self._deframers[stream_id] = Deframer(MAX_MESSAGE_BYTES)
        self._turns[stream_id] = 0

    def received(self, stream: Stream, data: memoryview) -> None:
        for _ in self._deframers[stream.id].feed(data):
            turn = self._turns[stream.id]
            self._turns[stream.id] = turn + 1
            self.heard += 1
            if not turn:
                self.engine.send_headers(stream, RESPONSE)
            self.engine.send_data(stream, self._answers[turn])

    def ended(self, stream: Stream) -> None:
        self.over += 1
        del self._deframers[stream.id], self._turns[stream.id]
        self.engine.send_headers(stream, TRAILERS, end=True)
        self.engine.close(stream)

    def began(self) -> None: ...
    def was_reset(self, stream: Stream) -> None: ...
    def window_opened(self) -> None: ...
    def ponged(self, data: bytes) -> None: ...
    def leaves(self) -> None: ...
    def nothing_new(self) -> None: ...


class WithH2:
    """The h2 library as a server's side, telling the same listener the same things."""

    def __init__(self, listener: Listener[Stream], *, checks_headers: bool) -> None:
        self.streams: Final[dict[int, Stream]] = {}
        self.initial_window = 65_535
        self._listener: Final = listener
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=checks_headers,
            normalize_inbound_headers=checks_headers,
            validate_outbound_headers=checks_headers,
            normalize_outbound_headers=checks_headers,
        )
        self._h2: Final = H2Connection(config)

    def begin(self) -> None:
        self._h2.initiate_connection()
        self._h2.update_settings(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
            }
        )
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)

    def receive(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            match event:
                case DataReceived(stream_id=int(stream_id), data=bytes(found), flow_controlled_length=int(length)):
                    self._h2.acknowledge_received_data(length, stream_id)
                    if found:
                        self._listener.received(self.streams[stream_id], memoryview(found))
                case RequestReceived(stream_id=int(stream_id), headers=list(headers)):
                    fields = dict(cast("list[tuple[bytes, bytes]]", headers))
                    self._listener.opened(stream_id, RequestHead(fields[b":method"], fields[b":path"], fields, None))
                case StreamEnded(stream_id=int(stream_id)):
                    self._listener.ended(self.streams[stream_id])
                case StreamReset(stream_id=int(stream_id)) if stream_id in self.streams:
                    self._listener.was_reset(self.streams.pop(stream_id))
                case WindowUpdated() | RemoteSettingsChanged():
                    self._listener.window_opened()
                case _:
                    self._listener.nothing_new()

    def send_headers(self, stream: Stream, headers: Headers, *, end: bool = False) -> None:
        self._h2.send_headers(stream.id, headers, end_stream=end)

    def send_data(self, stream: Stream, data: bytes) -> None:
        room = self._h2.max_outbound_frame_size
        for at in range(0, len(data), room):
            self._h2.send_data(stream.id, data[at : at + room])

    def close(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)

    def take(self) -> bytes:
        return self._h2.data_to_send()


def _ours(listener: Handler) -> Engine:
    return Http2[Stream](listener, max_streams=MAX_STREAMS, max_header_bytes=MAX_HEADER_BYTES)


ENGINES: Final[dict[str, Callable[[Handler], Engine]]] = {
    "our own": _ours,
    "h2": lambda listener: WithH2(listener, checks_headers=True),
    "h2, unchecked": lambda listener: WithH2(listener, checks_headers=False),
}


def reads(exchanges: int, *, at_once: int, body_bytes: int) -> list[bytes]:
    """A client's side of one connection, as a server's socket would give it: so many streams go on side by side."""
    encoder = Encoder()
    settings = SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW})
    opening = WindowUpdateFrame(0, window_increment=WINDOW)
    found = [PREFACE + settings.serialize() + opening.serialize(), SettingsFrame(flags=["ACK"]).serialize()]
    messages = [frame(bytes(size)) for size in (HEADERS_BYTES, body_bytes, ANSWER_BYTES)]
    for first in range(0, exchanges, at_once):
        streams = [2 * number + 1 for number in range(first, min(first + at_once, exchanges))]
        heads = [HeadersFrame(at, encoder.encode(ASKED), flags=["END_HEADERS"]).serialize() for at in streams]
        for turn, message in enumerate(messages):
            parts = [b"".join(data.serialize() for data in _frames(at, message)) for at in streams]
            found.append(b"".join(heads[at] + part if not turn else part for at, part in enumerate(parts)))
        found.append(b"".join(DataFrame(at, b"", flags=["END_STREAM"]).serialize() for at in streams))
    return found


def _frames(stream_id: int, message: bytes) -> Iterator[DataFrame]:
    return (DataFrame(stream_id, message[at : at + FRAME_BYTES]) for at in range(0, len(message), FRAME_BYTES))


def serve(made: Callable[[Handler], Engine], sent: Sequence[bytes], *, body_bytes: int) -> tuple[Handler, list[bytes]]:
    """Play one connection from its first byte to its last; who heard it, and what was answered, a turn at a time."""
    handler = Handler([frame(bytes(size)) for size in (2, body_bytes, ANSWER_BYTES)])
    engine = handler.engine = made(handler)
    engine.begin()
    said: list[bytes] = []
    for data in sent:
        engine.receive(data)
        said.append(engine.take())
    return handler, said


@dataclass(frozen=True, slots=True)
class Figure:
    """One engine under one load."""

    load: str
    engine: str
    exchange_us: float
    """Median over the rounds."""
    ratio: float
    """To our own in the same round: median."""
    least: float
    most: float
    """The ratio's first and third quartiles."""


LOADS: Final = (
    ("0.5 KB × 1", 512, 1),
    ("0.5 KB × 32", 512, 32),
    ("32 KB × 1", 32_768, 1),
)
"""The size of the body that comes and goes on, and how many streams send a message each in one read."""


def measure(exchanges: int, rounds: int) -> list[Figure]:
    """Every engine under every load, in turns."""
    return [figure for load in LOADS for figure in _under(*load, exchanges, rounds)]


def _under(load: str, body_bytes: int, at_once: int, exchanges: int, rounds: int) -> Iterator[Figure]:
    sent = reads(exchanges, at_once=at_once, body_bytes=body_bytes)
    samples: dict[str, list[float]] = {name: [] for name in ENGINES}
    for turn in range(rounds + 1):
        for name, made in ENGINES.items():
            began = thread_time()
            handler, _ = serve(made, sent, body_bytes=body_bytes)
            if turn:  # the first one only warms up
                samples[name].append((thread_time() - began) / exchanges * 1e6)
            assert (handler.heard, handler.over) == (3 * exchanges, exchanges), f"{name} did not hear everything"
    for name, found in samples.items():
        ratios = sorted(theirs / ours for theirs, ours in zip(found, samples["our own"], strict=True))
        least, median, most = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        yield Figure(load, name, round(statistics.median(found), 1), round(median, 2), round(least, 2), round(most, 2))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.http2", description="What HTTP/2 costs an exchange.")
    parser.add_argument("--exchanges", type=int, default=200, help="of each engine in a round")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = measure(asked.exchanges, asked.rounds)
    if asked.json:
        print(json.dumps([asdict(each) for each in figures], indent=2))
        return
    table = Table(title="HTTP/2 of one ext_proc exchange")
    for name in ("body × streams at once", "engine", "µs of CPU", "times our own", "quartiles"):
        table.add_column(name, justify="right")
    for each in figures:
        quartiles = f"{each.least:.2f} to {each.most:.2f}"
        table.add_row(each.load, each.engine, f"{each.exchange_us:.1f}", f"{each.ratio:.2f}", quartiles)
    Console().print(table)


if __name__ == "__main__":
    main()
