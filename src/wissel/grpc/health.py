"""gRPC's standard health service: a name becomes SERVING, NOT_SERVING or unknown.

Load balancers ask with Check and listen with Watch. Its two messages have one
field each, a name and a number, so they are written and read here by hand.
"""

from collections.abc import Iterable
from enum import IntEnum

from wissel.grpc.call import Call, Method
from wissel.grpc.frames import Message, Status

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


class ServingStatus(IntEnum):
    """`grpc.health.v1.HealthCheckResponse.ServingStatus`."""

    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class HealthService:
    """What this server says of each of its services; "" stands for the server as a whole.

    Nothing is SERVING until `set` says so.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses = dict.fromkeys(("", *services), ServingStatus.NOT_SERVING)
        self._watchers: dict[Call, str] = {}

    @property
    def methods(self) -> dict[str, Method]:
        """The service, by the paths under which it is called."""
        return {CHECK: lambda call: _Check(self, call), WATCH: lambda call: _Watch(self, call)}

    def status(self, service: str) -> ServingStatus:
        return self._statuses.get(service, ServingStatus.SERVICE_UNKNOWN)

    def set(self, status: ServingStatus) -> None:
        """Say it of every service, and tell those who watch."""
        changed = any(current is not status for current in self._statuses.values())
        self._statuses = dict.fromkeys(self._statuses, status)
        if changed:
            for call, service in self._watchers.items():
                if service in self._statuses:
                    call.send(encode_response(status))

    def dismiss(self) -> None:
        """End every watch: the server is going away."""
        for call in self._watchers:
            call.finish(Status.UNAVAILABLE, "server is shutting down")

    def watch(self, call: Call, service: str) -> None:
        """Send the service's status now and at every change, until `unwatch`."""
        self._watchers[call] = service
        call.send(encode_response(self.status(service)))

    def unwatch(self, call: Call) -> None:
        self._watchers.pop(call, None)


class _Check:
    def __init__(self, health: HealthService, call: Call) -> None:
        self._health = health
        self._call = call

    def message(self, data: Message) -> None:
        try:
            status = self._health.status(decode_request(bytes(data)))
        except ValueError:
            self._call.finish(Status.INVALID_ARGUMENT, "not a HealthCheckRequest")
            return
        if status is ServingStatus.SERVICE_UNKNOWN:
            self._call.finish(Status.NOT_FOUND, "unknown service")
            return
        self._call.send(encode_response(status))
        self._call.finish()

    def half_closed(self) -> None:
        # Without effect after an answer.
        self._call.finish(Status.INVALID_ARGUMENT, "no request came")

    def gone(self) -> None:
        pass


class _Watch:
    def __init__(self, health: HealthService, call: Call) -> None:
        self._health = health
        self._call = call
        self._asked = False

    def message(self, data: Message) -> None:
        if self._asked:
            self._call.finish(Status.INVALID_ARGUMENT, "a watch takes one request")
            return
        self._asked = True
        try:
            service = decode_request(bytes(data))
        except ValueError:
            self._call.finish(Status.INVALID_ARGUMENT, "not a HealthCheckRequest")
            return
        self._health.watch(self._call, service)

    def half_closed(self) -> None:
        if not self._asked:
            self._call.finish(Status.INVALID_ARGUMENT, "no request came")

    def gone(self) -> None:
        self._health.unwatch(self._call)


def encode_response(status: ServingStatus) -> bytes:
    """`HealthCheckResponse{status = 1}`."""
    return bytes((1 << 3, status))


def decode_request(data: bytes) -> str:
    """The `service` of a `HealthCheckRequest{service = 1}`; raises ValueError if `data` is none."""
    service, at = "", 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(data, at)
                if tag >> 3 == 1:
                    service = data[at : at + length].decode()
                at += length
            case 5:
                at += 4
            case wire_type:
                raise ValueError(f"wire type {wire_type} is not known")
    if at > len(data):
        raise ValueError("message is cut short")
    return service


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("message is cut short")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("varint is longer than ten bytes")
