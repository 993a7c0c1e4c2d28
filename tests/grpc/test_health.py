import pytest
from grpc_health.v1 import health_pb2
from hypothesis import given
from hypothesis import strategies as st

from wissel.grpc.frames import Part, Status
from wissel.grpc.health import CHECK, WATCH, HealthService, ServingStatus, decode_request, encode_response


class Call:
    def __init__(self, method: str) -> None:
        self.method = method
        self.heard: list[object] = []

    def send(self, *parts: Part) -> None:
        told = health_pb2.HealthCheckResponse.FromString(b"".join(parts))
        self.heard.append(ServingStatus(told.status))

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        self.heard.append(status)


def ask(health: HealthService, method: str, *requests: bytes) -> Call:
    call = Call(method)
    receiver = health.methods[method](call)
    for request in requests:
        receiver.message(request)
    return call


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_request_is_read_as_protobuf_writes_it(service: str):
    assert decode_request(health_pb2.HealthCheckRequest(service=service).SerializeToString()) == service


@pytest.mark.parametrize("status", list(ServingStatus))
def test_a_response_is_written_as_protobuf_reads_it(status: ServingStatus):
    assert health_pb2.HealthCheckResponse.FromString(encode_response(status)).status == status


def test_unknown_fields_are_skipped():
    # 2: varint 300, 3: eight bytes, 4: "zz", 5: four bytes, then 1: "a"
    assert decode_request(b"\x10\xac\x02\x19" + b"8" * 8 + b"\x22\x02zz\x2d" + b"4" * 4 + b"\x0a\x01a") == "a"


@given(st.binary())
def test_any_other_bytes_are_refused_in_one_way(data: bytes):
    try:
        service = decode_request(data)
    except ValueError:
        return
    assert isinstance(service, str)


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0b", b"\x0a", b"\xff" * 11, b"\x0a\x01\xff"])
def test_what_is_no_request_is_an_invalid_argument(data: bytes):
    assert ask(HealthService([]), CHECK, data).heard == [Status.INVALID_ARGUMENT]
    assert ask(HealthService([]), WATCH, data).heard == [Status.INVALID_ARGUMENT]


def test_nothing_serves_until_it_is_said():
    assert ask(HealthService([]), CHECK, b"").heard == [ServingStatus.NOT_SERVING, Status.OK]


def test_an_unknown_service_is_not_found_by_a_check():
    assert ask(HealthService(["a"]), CHECK, b"\x0a\x01b").heard == [Status.NOT_FOUND]


def test_a_watch_hears_every_change_once():
    health = HealthService(["a"])
    watch = ask(health, WATCH, b"\x0a\x01a")
    health.set(ServingStatus.SERVING)
    health.set(ServingStatus.SERVING)
    health.set(ServingStatus.NOT_SERVING)

    assert watch.heard == [ServingStatus.NOT_SERVING, ServingStatus.SERVING, ServingStatus.NOT_SERVING]


def test_a_watch_of_an_unknown_service_waits_for_it():
    health = HealthService([])
    watch = ask(health, WATCH, b"\x0a\x01b")
    health.set(ServingStatus.SERVING)

    assert watch.heard == [ServingStatus.SERVICE_UNKNOWN]


def test_a_watch_that_is_gone_hears_nothing():
    health = HealthService([])
    call = Call(WATCH)
    receiver = health.methods[WATCH](call)
    receiver.message(b"")
    receiver.gone()
    health.set(ServingStatus.SERVING)
    health.dismiss()

    assert call.heard == [ServingStatus.NOT_SERVING]


def test_a_watch_takes_one_request():
    assert ask(HealthService([]), WATCH, b"", b"").heard == [ServingStatus.NOT_SERVING, Status.INVALID_ARGUMENT]


@pytest.mark.parametrize("method", [CHECK, WATCH])
def test_a_stream_without_a_request_is_an_invalid_argument(method: str):
    call = Call(method)
    HealthService([]).methods[method](call).half_closed()

    assert call.heard == [Status.INVALID_ARGUMENT]
