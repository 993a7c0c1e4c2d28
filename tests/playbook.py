"""A test of the exchange as a playbook: what it hears, line by line, and what it does about each.

    assert (
        Playbook()
        >> asks("/v1/chat/completions")
        << Identify
        >> ADA
        << Reply("request_headers")
    )

`>>` is what comes in: a message of Envoy's, or the answer to the latest
question, whichever it was. `<<` is the next step that is taken; a step, its
class, or something that equals it. What is taken and not written fails the
line after, so two `>>` in a row say that nothing was done between them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factories import model
from wissel.apis.windows import whole
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.decision import Denied, Routed
from wissel.core.snapshot import Terms
from wissel.extproc.events import (
    Decide,
    Event,
    Identify,
    Protocol,
    Read,
    Refuse,
    RequestBody,
    RequestHeaders,
    Score,
    Step,
)
from wissel.extproc.exchange import Exchange

BUFFERED = Protocol("buffered", "none")
DUPLEX = Protocol("full_duplex_streamed", "none")
STREAMED = Protocol("buffered", "streamed")
DUPLEX_STREAMED = Protocol("full_duplex_streamed", "streamed")

CALL = "/v1/chat/completions"
ADA = Principal("ada")


@dataclass(frozen=True)
class At:
    """The clock stands here from now on."""

    now: float


@dataclass(frozen=True)
class Late:
    """The body's time is up."""


@dataclass(frozen=True)
class Closed:
    """Envoy has ended the stream."""

    override_works: bool = False


def _read(step: Step) -> list[Step]:
    """A body is read at once."""
    return whole(step.work) if isinstance(step, Read) else [step]


class Playbook:
    """One exchange, which begins at 10."""

    def __init__(self, protocol: Protocol | None = BUFFERED, *, terms: Terms = Terms()) -> None:  # noqa: B008 - it is frozen
        self.exchange = Exchange("wr-1", now=10.0, terms=terms)
        self._protocol = protocol
        self._now = 10.0
        self._asked: Identify | Decide | Score | None = None
        self._steps: list[Step] = []
        self._lines: list[str] = []

    def __rshift__(self, said: object) -> "Playbook":
        self._check(not self._steps, "nothing")
        self._lines.append(f">> {said}")
        self._steps = [then for step in self._hear(said) for then in _read(step)]
        self._asked = next((step for step in self._steps if isinstance(step, Identify | Decide | Score)), self._asked)
        return self

    def __lshift__(self, expected: object) -> "Playbook":
        step = self._steps.pop(0) if self._steps else None
        is_it = isinstance(step, expected) if isinstance(expected, type) else expected == step
        self._check(is_it, expected, step)
        self._lines.append(f"<< {step}")
        return self

    def __bool__(self) -> bool:
        """Whether everything that was done is written."""
        self._check(not self._steps, "nothing")
        return True

    def _hear(self, said: Any) -> list[Step]:
        match said:
            case At(now):
                self._now = now
                return []
            case Late():
                return self.exchange.late()
            case Closed(override_works):
                self.exchange.closed(now=self._now, override_works=override_works)
                return []
            case _ if isinstance(said, Event):
                protocol, self._protocol = self._protocol, None
                return self.exchange.receive(said, now=self._now, protocol=protocol)
        match self._asked:
            case Identify():
                return self.exchange.identified(said)
            case Decide():
                return self.exchange.decided(said)
            case Score(feedback, _):
                return self.exchange.scored(feedback, said)
            case None:
                raise AssertionError(f"nothing was asked that {said} could answer")

    def _check(self, is_it: bool, expected: object, step: object = None) -> None:
        done = step or self._steps or "nothing"
        assert is_it, "\n".join((*self._lines, f"<< {done}", f"   and the playbook says: {expected}"))


# What is said.


def headers(path: str = CALL, *, method: str = "POST", **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {":method": method, ":path": path, ":authority": "llm", **named}


def asks(path: str = CALL, *, end_of_stream: bool = False, **more: str) -> RequestHeaders:
    return RequestHeaders(headers(path, **more), end_of_stream)


def gets(path: str) -> RequestHeaders:
    return asks(path, method="GET", end_of_stream=True)


def sends(data: bytes, *, more: bool = False) -> RequestBody:
    return RequestBody(data, end_of_stream=not more)


def routed(**fields: Any) -> Routed:
    served = fields.pop("model", None) or model("small", upstream_model="org/small")
    return Routed(served, "small", "small", "static", fields.pop("principal", ANONYMOUS), "r1", **fields)


def denied(status: int = 403, code: str = "forbidden", **fields: Any) -> Denied:
    return Denied(status, "no", "permission_error", code, **fields)


# What is expected.


class Like:
    """Equals what is of this class and has these values, whatever else it has."""

    def __init__(self, kind: type, /, **fields: object) -> None:
        self._kind = kind
        self._fields = fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self._kind) and all(
            getattr(other, name) == value for name, value in self._fields.items()
        )

    def __hash__(self) -> int:
        return hash(self._kind)

    def __repr__(self) -> str:
        return f"{self._kind.__name__} with {self._fields}"


class Including:
    """Equals a mapping that has these entries, and others or none."""

    def __init__(self, entries: Mapping[str, object]) -> None:
        self._entries = entries

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._entries.items() <= other.items()

    def __hash__(self) -> int:
        return hash(tuple(self._entries))

    def __repr__(self) -> str:
        return f"{{…, {self._entries}}}"


@dataclass(frozen=True)
class Refused:
    """Equals a refusal with this status and this code, whose body says `word`."""

    status: int
    code: str
    word: str = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Refuse):
            return False
        told = json.loads(other.response.body)["error"]
        return (other.response.status, told["code"]) == (self.status, self.code) and self.word in told["message"]

    def __hash__(self) -> int:
        return hash(self.code)
