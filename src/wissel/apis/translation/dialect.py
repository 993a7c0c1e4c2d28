"""What translation knows of a format: one frozen row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from wissel.apis.shapes import Json
from wissel.apis.translation.form import Event, Occasion, Trouble, WholeAnswer


class EventReader(Protocol):
    """Reads one stream of the format."""

    def read(self, said: Json) -> list[Event]:
        """What an event of it says."""
        ...

    def repeats(self, said: Json) -> bool:
        """Whether an event, whose long members may be missing, says again what was told already."""
        ...

    def end(self) -> list[Event]:
        """`[DONE]` came."""
        ...

    def finish(self) -> list[Event]:
        """Nothing follows, and the answer has not ended yet. Raises CutError where it was cut."""
        ...


class EventWriter(Protocol):
    """Writes one stream of the format."""

    def write(self, event: Event) -> str:
        """The server-sent events, in ASCII, that say the same."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a format says what the canonical form means."""

    name: str
    """Of the API whose format it is."""
    read_answer: Callable[[Json, Occasion], WholeAnswer | None]
    """None where the body is no answer."""
    write_answer: Callable[[WholeAnswer, Occasion], dict[str, Any]]
    reader: Callable[[Occasion], EventReader]
    writer: Callable[[Occasion], EventWriter]
    write_trouble: Callable[[Trouble], tuple[int, str]]
    """The status and the body of an error."""
    request_id_header: str
    """Where its clients look for the provider's name of a request."""
