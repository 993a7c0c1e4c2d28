"""What a translation costs: a streamed event from each format to each other, and a whole answer.

    python -m tests.bench.translation [--events 2000] [--rounds 9] [--peer PYTHON] [--json]

A stream of words is fed event by event, as a model sends them, from the bytes of
one format to those of another, and an answer of the same words at once. Time is
the CPU's of this thread; of the rounds the best stands, since what else a machine
does only adds. With `--peer`, an interpreter that has llm-rosetta installed, the
same events go through that beside ours, in turns.
"""

import argparse
import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import thread_time
from typing import Final

from rich.console import Console
from rich.table import Table

from wissel.apis.sse import Splitter, data_of
from wissel.apis.translation.answering import StreamTranslation, translated_answer
from wissel.apis.translation.dialects import DIALECTS
from wissel.apis.translation.form import (
    END,
    Delta,
    Ended,
    Event,
    Occasion,
    PartBegan,
    PartEnded,
    Started,
    Text,
    WholeAnswer,
)
from wissel.core.outcome import Usage

AIM_US: Final = 15.0
"""For an event."""
WORD: Final = " word"
USAGE: Final = Usage(1000, 500, 800)
_ASKED: Final = Occasion("req-1", "m", 1_800_000_000, input_tokens=1000)


@dataclass(frozen=True, slots=True)
class Figure:
    """One way."""

    spoken: str
    wanted: str
    event_us: float
    answer_us: float
    """Whole, of as many words as there were events."""
    peer_us: float | None
    """llm-rosetta's for an event; None where it was not asked."""


def stream(spoken: str, words: int) -> list[bytes]:
    """The events of so many words, in the bytes of a format."""
    writer = DIALECTS[spoken].writer(_ASKED)
    events: list[Event] = [
        Started("id-1", "m", 1_800_000_000, None),
        PartBegan(0, Text("")),
        *[Delta(0, WORD)] * words,
        PartEnded(0),
        Ended(END, USAGE),
    ]
    splitter = Splitter()
    return [piece.raw for event in events for piece in splitter.feed(writer.write(event).encode())]


def measure(events: int, rounds: int, peer: str | None) -> list[Figure]:
    return [
        _measure(spoken, wanted, events, rounds, peer) for spoken in DIALECTS for wanted in DIALECTS if spoken != wanted
    ]


def _measure(spoken: str, wanted: str, events: int, rounds: int, peer: str | None) -> Figure:
    reads, writes = DIALECTS[spoken], DIALECTS[wanted]
    sent = stream(spoken, events)
    answer = WholeAnswer("id-1", "m", 1_800_000_000, (Text(WORD * events),), END, USAGE)
    body = json.dumps(reads.write_answer(answer, _ASKED)).encode()

    def streamed() -> None:
        one = StreamTranslation(_ASKED, spoken=reads, wanted=writes)
        size = sum(len(one.feed(each)) for each in sent)
        assert one.ended
        assert size > events * len(WORD), "nothing was written"

    def whole() -> None:
        status, told = translated_answer(body, _ASKED, spoken=reads, wanted=writes)
        assert (status, len(told) > events * len(WORD)) == (200, True)

    taken = _best(streamed, rounds) / len(sent), _best(whole, rounds)
    beside = _peer(peer, spoken, wanted, sent) if peer else None
    return Figure(spoken, wanted, round(taken[0], 1), round(taken[1], 1), beside)


def _best(run: Callable[[], None], rounds: int) -> float:
    """Microseconds."""
    found: list[float] = []
    for _ in range(rounds + 1):  # the first one only warms up
        began = thread_time()
        run()
        found.append(thread_time() - began)
    return min(found[1:]) * 1e6


def _peer(python: str, spoken: str, wanted: str, sent: list[bytes]) -> float:
    lines = b"\n".join(data for each in sent if (data := data_of(each)) != b"[DONE]")
    script = str(Path(__file__).with_name("rosetta.py"))
    told = subprocess.run([python, script, spoken, wanted], input=lines, capture_output=True, check=True)
    return round(float(told.stdout), 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.translation", description="What a translation costs.")
    parser.add_argument("--events", type=int, default=2000, help="of a stream")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has llm-rosetta")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = measure(asked.events, asked.rounds, asked.peer)
    if asked.json:
        print(json.dumps([asdict(each) for each in figures], indent=2))
        return
    table = Table(title=f"Translating answers (aim: an event within {AIM_US:g} µs)")
    for name in ("from", "to", "an event, µs", "llm-rosetta, µs", f"a whole answer of {asked.events} words, µs"):
        table.add_column(name, justify="right")
    for each in figures:
        beside = "" if each.peer_us is None else f"{each.peer_us:.1f}"
        table.add_row(each.spoken, each.wanted, f"{each.event_us:.1f}", beside, f"{each.answer_us:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
