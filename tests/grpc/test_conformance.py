"""RFC 9113 and RFC 7541 as a playbook: what a peer says to the real server on a socket, and what it hears.

Each row is one rule, under the section that has it: turns of frames, and every
frame that answers them but settings. `open` or `closed` at the end says what
became of the connection; `open` was tried with a ping.
"""

import asyncio
import itertools

import pytest
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from tests.grpc.test_server import ECHO, serving

from wissel.grpc.bounds import Limits
from wissel.grpc.frames import frame
from wissel.grpc.reader import ErrorCode

KINDS = ["DATA", "HEADERS", "PRIORITY", "RST", "SETTINGS", "PUSH", "PING", "GOAWAY", "WINDOW", "CONTINUATION"]
END, ACK, END_HEADERS, PADDED, PRIORITISED = 1, 1, 4, 8, 32

GET = {":method": "GET", ":scheme": "http", ":path": "/", ":authority": "a"}
CALL = {**GET, ":method": "POST", ":path": ECHO, "content-type": "application/grpc", "te": "trailers"}
Fields = dict[str, str] | list[tuple[str, str]]

ANSWER = ["HEADERS 1 405", "DATA 1 44", "DATA 1 0 end"]
"""To GET, which is no gRPC."""
ECHOED = ["HEADERS 1 200", "DATA 1 6"]
"""To MESSAGE."""
OK = "HEADERS 1 grpc 0 end"
MESSAGE = frame(b"x")


def raw(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(fields: Fields) -> bytes:
    """Written so that it means the same whatever was said before it."""
    pairs = fields.items() if isinstance(fields, dict) else fields
    return Encoder().encode([NeverIndexedHeaderTuple(*pair) for pair in pairs])


def headers(fields: Fields, flags: int = END_HEADERS | END, stream: int = 1) -> bytes:
    return raw(1, block(fields), flags, stream)


def get(**fields: str) -> bytes:
    """A GET with some fields more, or others."""
    return headers({**GET, **{name.replace("_", "-"): value for name, value in fields.items()}})


def call(stream: int = 1, **fields: str) -> bytes:
    """The beginning of a call."""
    return headers({**CALL, **{name.replace("_", "-"): value for name, value in fields.items()}}, END_HEADERS, stream)


def data(payload: bytes = MESSAGE, flags: int = 0, stream: int = 1) -> bytes:
    return raw(0, payload, flags, stream)


def setting(number: int, value: int) -> bytes:
    return raw(4, number.to_bytes(2, "big") + value.to_bytes(4, "big"))


def window(more: int, stream: int = 0) -> bytes:
    return raw(8, more.to_bytes(4, "big"), stream=stream)


def reset(stream: int = 1) -> bytes:
    return raw(3, ErrorCode.CANCEL.to_bytes(4, "big"), stream=stream)


def priority(parent: int, stream: int = 1) -> bytes:
    return raw(2, parent.to_bytes(4, "big") + b"\x0f", stream=stream)


def coded(payload: bytes) -> bytes:
    """A GET whose block goes on with bytes of HPACK."""
    return raw(1, block(GET) + payload, END_HEADERS | END, 1)


ENDED = call() + data(flags=END)
"""A whole call, that ends on both sides."""
WHOLE = [*ECHOED, OK]
HUFFMAN = b"\0\x85\xf2\xb2\x4a\x84\xff"
"""HPACK's beginning of a field, whose value in Huffman's code follows."""
LEFT = headers({**CALL, ":path": "/no"}, END_HEADERS)
"""A call that the server ends first."""
UNKNOWN = ["HEADERS 1 grpc 12 end", "RST 1 NO_ERROR"]


def broken(code: str, *before: str) -> list[str]:
    """The connection ends."""
    return [*before, f"GOAWAY {code}", "closed"]


def faulty(code: str, *before: str) -> list[str]:
    """Stream 1 ends, and nothing else."""
    return [*before, f"RST 1 {code}", "open"]


def fine(*answers: str) -> list[str]:
    return [*answers, "open"]


PLAYBOOK: dict[str, tuple[list[bytes], list[str]]] = {
    # 4. frames
    "4.1 a frame of an unknown kind is passed over": ([raw(0x16, b"what") + get()], fine(*ANSWER)),
    "4.1 flags without meaning are passed over": ([raw(6, b"12345678", 0x16)], fine("PING")),
    "4.1 the reserved bit of a stream's number is passed over": ([raw(6, b"12345678", 0, 1 << 31)], fine("PING")),
    "4.2 a frame may have 16,384 bytes": ([call() + data(frame(bytes(16_379)))], fine("HEADERS 1 200", "DATA 1 16384")),
    "4.2 data over the size of a frame": ([call() + data(bytes(16_385))], broken("FRAME_SIZE_ERROR")),
    "4.2 headers over the size of a frame": ([raw(1, bytes(16_385), 4, 1)], broken("FRAME_SIZE_ERROR")),
    "4.3 a block that is no HPACK": ([raw(1, b"\xff\xff\xff", 5, 1)], broken("COMPRESSION_ERROR")),
    "4.3 a priority within a block": ([headers(GET, END) + priority(0)], broken("PROTOCOL_ERROR")),
    "4.3 headers of another stream within a block": (
        [headers(GET, END) + headers(GET, stream=3)],
        broken("PROTOCOL_ERROR"),
    ),
    "5.5 an unknown kind within a block": ([headers(GET, END) + raw(0x16)], broken("PROTOCOL_ERROR")),
    # 5.1 states
    "5.1 data on an idle stream": ([data()], broken("PROTOCOL_ERROR")),
    "5.1 a reset of an idle stream": ([reset()], broken("PROTOCOL_ERROR")),
    "5.1 a window of an idle stream": ([window(1, 1)], broken("PROTOCOL_ERROR")),
    "5.1 a priority of an idle stream": ([priority(0) + get()], fine(*ANSWER)),
    "5.1 data after the end of a stream that is open here": (
        [setting(4, 0) + call() + data(flags=END) + data()],
        faulty("STREAM_CLOSED", "HEADERS 1 200"),
    ),
    "5.1 headers after the end of a stream that is open here": (
        [setting(4, 0) + call() + data(flags=END) + headers({"x": "y"})],
        faulty("STREAM_CLOSED", "HEADERS 1 200"),
    ),
    "5.1 a half-closed stream takes windows and priorities": (
        [setting(4, 0) + call() + data(flags=END) + priority(0), window(6, 1)],
        fine("HEADERS 1 200", "DATA 1 6", OK),
    ),
    "5.1 a half-closed stream takes a reset": (
        [setting(4, 0) + call() + data(flags=END) + reset(), window(6, 1)],
        fine("HEADERS 1 200"),
    ),
    "5.1 data after a reset": ([call() + reset() + data()], faulty("STREAM_CLOSED")),
    "5.1 headers after a reset": ([call() + reset() + get()], broken("STREAM_CLOSED")),
    "5.1 a continuation after a reset": ([call() + reset() + raw(9, b"", 4, 1)], broken("PROTOCOL_ERROR")),
    "5.1 data on a closed stream": ([ENDED, data()], faulty("STREAM_CLOSED", *WHOLE)),
    "5.1 headers on a closed stream": ([ENDED, get()], broken("STREAM_CLOSED", *WHOLE)),
    "5.1 a continuation on a closed stream": ([ENDED, raw(9, b"", 4, 1)], broken("PROTOCOL_ERROR", *WHOLE)),
    "5.1 a closed stream may be spoken of": ([ENDED, window(1, 1) + reset() + priority(0)], fine(*WHOLE)),
    "5.1 what a peer sends before it hears of the end": (
        [LEFT, data() + window(1, 1) + headers({"x": "y"}) + reset()],
        fine(*UNKNOWN),
    ),
    "5.1.1 a stream with an even number": ([headers(GET, stream=2)], broken("PROTOCOL_ERROR")),
    "5.1.1 a stream with a lower number": ([call(5) + headers(GET, stream=3)], broken("PROTOCOL_ERROR")),
    "5.1.2 more streams than allowed": ([call() + call(3) + call(5)], fine("RST 5 REFUSED_STREAM")),
    "5.3.1 a stream that depends on itself": (
        [raw(1, b"\0\0\0\1\x0f" + block(GET), END | END_HEADERS | PRIORITISED, 1)],
        faulty("PROTOCOL_ERROR"),
    ),
    "5.3.1 an open stream that comes to depend on itself": ([call() + priority(1)], faulty("PROTOCOL_ERROR")),
    "5.3.1 an idle stream that depends on itself": ([priority(1)], broken("PROTOCOL_ERROR")),
    # 6. kinds
    "6.1 data of no stream": ([data(stream=0)], broken("PROTOCOL_ERROR")),
    "6.1 padding is not data": ([call() + data(b"\3" + MESSAGE + bytes(3), PADDED)], fine(*ECHOED)),
    "6.1 data with more padding than bytes": ([call() + data(b"\6abcde", PADDED)], broken("PROTOCOL_ERROR")),
    "6.1 padded data without a byte": ([call() + data(b"", PADDED)], broken("PROTOCOL_ERROR")),
    "6.1 wrong padding on a closed stream": ([LEFT, data(b"\6abcde", PADDED)], broken("PROTOCOL_ERROR", *UNKNOWN)),
    "6.2 headers of no stream": ([headers(GET, stream=0)], broken("PROTOCOL_ERROR")),
    "6.2 padding is no header": ([raw(1, b"\2" + block(GET) + bytes(2), END | END_HEADERS | PADDED, 1)], fine(*ANSWER)),
    "6.2 headers with more padding than bytes": ([raw(1, b"\xff" + block(GET), 13, 1)], broken("PROTOCOL_ERROR")),
    "6.2 headers with a priority": ([raw(1, b"\0\0\0\3\x0f" + block(GET), 37, 1)], fine(*ANSWER)),
    "6.2 headers whose priority is cut short": ([raw(1, b"\0\0", 37, 1)], broken("FRAME_SIZE_ERROR")),
    "6.3 a priority of no stream": ([priority(0, 0)], broken("PROTOCOL_ERROR")),
    "6.3 a priority of four bytes": ([call() + raw(2, bytes(4), 0, 1)], broken("FRAME_SIZE_ERROR")),
    "6.4 a reset of no stream": ([reset(0)], broken("PROTOCOL_ERROR")),
    "6.4 a reset of three bytes": ([call() + raw(3, bytes(3), 0, 1)], broken("FRAME_SIZE_ERROR")),
    "6.5 an acknowledgement with settings": ([raw(4, bytes(6), ACK)], broken("FRAME_SIZE_ERROR")),
    "6.5 settings of a stream": ([raw(4, stream=1)], broken("PROTOCOL_ERROR")),
    "6.5 settings cut short": ([raw(4, bytes(3))], broken("FRAME_SIZE_ERROR")),
    "6.5.2 ENABLE_PUSH that is neither 0 nor 1": ([setting(2, 2)], broken("PROTOCOL_ERROR")),
    "6.5.2 INITIAL_WINDOW_SIZE over 2^31-1": ([setting(4, 1 << 31)], broken("FLOW_CONTROL_ERROR")),
    "6.5.2 MAX_FRAME_SIZE below 16,384": ([setting(5, 16_383)], broken("PROTOCOL_ERROR")),
    "6.5.2 MAX_FRAME_SIZE over 2^24-1": ([setting(5, 1 << 24)], broken("PROTOCOL_ERROR")),
    "6.5.2 a setting without meaning": ([setting(0xFF, 1) + get()], fine(*ANSWER)),
    "6.5.3 the last of a setting's values counts": (
        [raw(4, b"\0\4\0\0\0\x64\0\4\0\0\0\1") + get()],
        fine("HEADERS 1 405", "DATA 1 1"),
    ),
    "6.6 a push": ([call() + raw(5, b"\0\0\0\2" + block(GET), END_HEADERS, 1)], broken("PROTOCOL_ERROR")),
    "6.7 a ping is answered": ([raw(6, b"12345678")], fine("PING")),
    "6.7 an answer to a ping is not": ([raw(6, b"12345678", ACK)], fine()),
    "6.7 a ping of a stream": ([raw(6, bytes(8), 0, 1)], broken("PROTOCOL_ERROR")),
    "6.7 a ping of six bytes": ([raw(6, bytes(6))], broken("FRAME_SIZE_ERROR")),
    "6.8 a goodbye of a stream": ([raw(7, bytes(8), 0, 1)], broken("PROTOCOL_ERROR")),
    "6.8 a goodbye cut short": ([raw(7, bytes(7))], broken("FRAME_SIZE_ERROR")),
    "6.8 a goodbye lets streams end": ([call() + raw(7, bytes(8)) + data(flags=END)], [*WHOLE, "closed"]),
    "6.9 a window of three bytes": ([window(0)[:2] + b"\3" + window(1)[3:12]], broken("FRAME_SIZE_ERROR")),
    "6.9 the connection's window opened by nothing": ([window(0)], broken("PROTOCOL_ERROR")),
    "6.9 a stream's window opened by nothing": ([call() + window(0, 1)], faulty("PROTOCOL_ERROR")),
    "6.9.1 no more is sent than the window takes": ([setting(4, 1) + get()], fine("HEADERS 1 405", "DATA 1 1")),
    "6.9.1 the connection's window over 2^31-1": (
        [window(2**31 - 1) + window(2**31 - 1)],
        broken("FLOW_CONTROL_ERROR"),
    ),
    "6.9.1 a stream's window over 2^31-1": (
        [call() + window(2**31 - 1, 1) + window(2**31 - 1, 1)],
        faulty("FLOW_CONTROL_ERROR"),
    ),
    "6.9.2 a setting opens the windows of open streams": (
        [setting(4, 0) + get(), setting(4, 1)],
        fine("HEADERS 1 405", "DATA 1 1"),
    ),
    "6.9.2 a window may be less than nothing": (
        [setting(4, 3) + get(), setting(4, 2), window(2, 1)],
        fine("HEADERS 1 405", "DATA 1 3", "DATA 1 1"),
    ),
    "6.9.2 a setting that overflows a stream's window": (
        [call() + window(2**31 - 1 - 65_535, 1) + setting(4, 65_536)],
        broken("FLOW_CONTROL_ERROR"),
    ),
    "6.10 headers may go on in continuations": (
        [raw(1, block(GET)[:9], END, 1) + raw(9, block(GET)[9:20], 0, 1) + raw(9, block(GET)[20:], END_HEADERS, 1)],
        fine(*ANSWER),
    ),
    "6.10 a continuation of another stream": (
        [raw(1, block(GET)[:9], END, 1) + raw(9, block(GET)[9:], END_HEADERS, 3)],
        broken("PROTOCOL_ERROR"),
    ),
    "6.10 a continuation of no stream": ([headers(GET, END) + raw(9, b"", END_HEADERS)], broken("PROTOCOL_ERROR")),
    "6.10 data within a block": ([headers(GET, 0) + data()], broken("PROTOCOL_ERROR")),
    "6.10 a continuation of nothing": ([call() + raw(9, b"", END_HEADERS, 1)], broken("PROTOCOL_ERROR")),
    "7 an unknown error is a reset like any other": ([call() + raw(3, b"\0\0\0\xff", 0, 1)], fine()),
    # 8. messages
    "8.1 trailers that do not end the stream": ([call() + headers({"x": "y"}, END_HEADERS)], faulty("PROTOCOL_ERROR")),
    "8.1 a call may end with trailers": ([call() + data() + headers({"x": "y"})], fine(*WHOLE)),
    "8.1 a pseudo-header field in trailers": ([call() + headers({":path": "/"})], faulty("PROTOCOL_ERROR")),
    "8.1.1 fewer bytes than content-length": (
        [call(content_length="7") + data() + data(b"", END)],
        faulty("PROTOCOL_ERROR", *ECHOED),
    ),
    "8.1.1 more bytes than content-length": ([call(content_length="5") + data()], faulty("PROTOCOL_ERROR")),
    "8.1.1 fewer bytes than content-length before trailers": (
        [call(content_length="7") + data() + headers({"x": "y"})],
        faulty("PROTOCOL_ERROR", *ECHOED),
    ),
    "8.1.1 a content-length and no body": ([get(content_length="1")], faulty("PROTOCOL_ERROR")),
    "8.1.1 as many bytes as content-length": ([call(content_length="6") + data(flags=END)], fine(*WHOLE)),
    "8.1.1 a content-length that is no number": ([call(content_length="+6")], faulty("PROTOCOL_ERROR")),
    "8.1.1 two content-lengths": (
        [headers([*CALL.items(), ("content-length", "6"), ("content-length", "7")], END_HEADERS)],
        faulty("PROTOCOL_ERROR"),
    ),
    "8.2 a name in upper case": ([get(X_Test="y")], faulty("PROTOCOL_ERROR")),
    "8.2.1 a name with a blank": ([headers({**GET, "x y": "z"})], faulty("PROTOCOL_ERROR")),
    "8.2.1 a name that is empty": ([headers({**GET, "": "z"})], faulty("PROTOCOL_ERROR")),
    "8.2.1 a name that ends with a colon": ([headers({**GET, "x:": "z"})], faulty("PROTOCOL_ERROR")),
    "8.2.1 a value with a line break": ([get(x="a\r\nb: c")], faulty("PROTOCOL_ERROR")),
    "8.2.1 a value with a zero": ([get(x="a\0b")], faulty("PROTOCOL_ERROR")),
    "8.2.1 a value with blanks around it": ([get(x="a ")], faulty("PROTOCOL_ERROR")),
    "8.2.2 connection": ([get(connection="keep-alive")], faulty("PROTOCOL_ERROR")),
    "8.2.2 keep-alive": ([get(keep_alive="timeout=5")], faulty("PROTOCOL_ERROR")),
    "8.2.2 proxy-connection": ([get(proxy_connection="keep-alive")], faulty("PROTOCOL_ERROR")),
    "8.2.2 transfer-encoding": ([get(transfer_encoding="chunked")], faulty("PROTOCOL_ERROR")),
    "8.2.2 upgrade": ([get(upgrade="h2c")], faulty("PROTOCOL_ERROR")),
    "8.2.2 te with more than trailers": ([get(te="trailers, deflate")], faulty("PROTOCOL_ERROR")),
    "8.3 an unknown pseudo-header field": ([headers({":test": "x", **GET})], faulty("PROTOCOL_ERROR")),
    "8.3 a pseudo-header field of responses": ([headers({":status": "200", **GET})], faulty("PROTOCOL_ERROR")),
    "8.3 a pseudo-header field after others": (
        [headers([("x", "y"), *GET.items()])],
        faulty("PROTOCOL_ERROR"),
    ),
    **{
        f"8.3.1 no {name}": ([headers({n: v for n, v in GET.items() if n != name})], faulty("PROTOCOL_ERROR"))
        for name in (":method", ":scheme", ":path")
    },
    **{
        f"8.3.1 {name} twice": ([headers([*GET.items(), (name, GET[name])])], faulty("PROTOCOL_ERROR"))
        for name in GET
    },
    "8.3.1 an empty path": ([headers({**GET, ":path": ""})], faulty("PROTOCOL_ERROR")),
    "8.3.1 a host beside another authority": ([get(host="b")], faulty("PROTOCOL_ERROR")),
    "8.3.1 two hosts": ([headers([*GET.items(), ("host", "a"), ("host", "a")])], faulty("PROTOCOL_ERROR")),
    "8.3.1 no authority": ([headers({n: v for n, v in GET.items() if n != ":authority"})], fine(*ANSWER)),
    "8.5 a CONNECT has no path": ([headers({**GET, ":method": "CONNECT"})], faulty("PROTOCOL_ERROR")),
    "8.5 a CONNECT is no call": ([headers({":method": "CONNECT", ":authority": "a"})], fine(*ANSWER)),
    # HPACK
    "7541 2.3.3 an index of no entry": ([coded(b"\xc6")], broken("COMPRESSION_ERROR")),
    "7541 2.3.3 a name's index of no entry": ([coded(b"\x7f\x07\x01x")], broken("COMPRESSION_ERROR")),
    "7541 4.2 a change of the table's size within a block": ([coded(b"\x20")], broken("COMPRESSION_ERROR")),
    "7541 5.2 padding of more than seven bits": (
        [coded(HUFFMAN + b"\x84\x49\x50\x9f\xff")],
        broken("COMPRESSION_ERROR"),
    ),
    "7541 5.2 padding that is not all ones": ([coded(HUFFMAN + b"\x83\x49\x50\x90")], broken("COMPRESSION_ERROR")),
    "7541 5.2 an end of string within one": (
        [coded(HUFFMAN + b"\x87\x49\x51\xff\xff\xff\xfa\x7f")],
        broken("COMPRESSION_ERROR"),
    ),
    "7541 6.1 the index 0": ([coded(b"\x80")], broken("COMPRESSION_ERROR")),
    "7541 6.3 a table over its limit": ([raw(1, b"\x3f\xe2\x1f" + block(GET), 5, 1)], broken("COMPRESSION_ERROR")),
    "7541 6.3 a table within its limit": ([raw(1, b"\x20" + block(GET), 5, 1)], fine(*ANSWER)),
}  # fmt: skip


class Peer:
    """A client that says what it is told to, and writes down what it hears."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard: list[str] = []
        self._decoder = Decoder()
        self._pings = itertools.count()

    async def say(self, data: bytes) -> bool:
        """Say it, and hear all that it leads to; whether the connection is still open."""
        self.writer.write(data)
        # What is written at the end of the turn that read it comes before the second answer.
        for number in itertools.islice(self._pings, 2):
            self.writer.write(raw(6, number.to_bytes(8, "big")))
            try:
                while (heard := await self._hear()) != number.to_bytes(8, "big"):
                    self.heard += [heard] if isinstance(heard, str) else ["PING"]
            except (asyncio.IncompleteReadError, ConnectionError):
                self.heard.append("closed")
                return False
        return True

    async def _hear(self) -> str | bytes:
        """The next frame but settings and the connection's window, as it is written in the playbook."""
        head = await self.reader.readexactly(9)
        payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = KINDS[head[3]], head[4], int.from_bytes(head[5:], "big")
        end = " end" if flags & END else ""
        match kind:
            case "SETTINGS" | "WINDOW":
                return await self._hear()
            case "PING":
                return payload
            case "HEADERS":
                fields = dict(self._decoder.decode(payload))
                said = f"grpc {fields['grpc-status']}" if "grpc-status" in fields else fields[":status"]
                return f"HEADERS {stream} {said}{end}"
            case "DATA":
                return f"DATA {stream} {len(payload)}{end}"
            case "RST":
                return f"RST {stream} {ErrorCode(int.from_bytes(payload, 'big')).name}"
            case _:
                return f"{kind} {ErrorCode(int.from_bytes(payload[4:8], 'big')).name}"


async def hear(*turns: bytes) -> list[str]:
    async with serving(limits=Limits(streams=2)) as (_, address), asyncio.timeout(5):
        peer = Peer(*await asyncio.open_connection(*address.split(":")))
        for turn in turns:
            if not await peer.say(turn):
                break
        else:
            peer.heard.append("open")
        peer.writer.close()
        return peer.heard


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize("rule", PLAYBOOK)
async def test_a_peer_hears_what_the_rule_says(rule: str):
    turns, expected = PLAYBOOK[rule]

    assert await hear(PREFACE + raw(4), *turns) == expected


@pytest.mark.parametrize(
    "beginning",
    [b"GET / HTTP/1.1\r\n\r\n" * 2, PREFACE + raw(6, bytes(8)), PREFACE + raw(4, flags=ACK), PREFACE + get()],
)
async def test_a_connection_begins_with_its_preface_and_settings(beginning: bytes):
    assert await hear(beginning) == broken("PROTOCOL_ERROR")
