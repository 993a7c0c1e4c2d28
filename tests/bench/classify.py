"""How fast the embedding classifier is, and how often it is right.

    python -m tests.bench.classify [--clinc FOLDER] [--split test] [--json]

All in one process: the default encoder against MiniLM alone on a text's first 256 tokens, one thread each,
in turns; the last turn of a conversation, from the body to the route; 32
callers at once against one at a time; and, given CLINC150's folder, accuracy over random draws of intents, with and
without the default threshold, beside the share of out-of-scope messages that
the threshold catches.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.bench.minilm_processor import FirstTokens

from wissel.apis.body import read_body
from wissel.apis.chat import CHAT
from wissel.apis.requests import understand
from wissel.apis.windows import whole
from wissel.classifiers.embedding import EmbeddingClassifier
from wissel.classifiers.encoders import load, section_of
from wissel.classifiers.matching import Fitted, SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook, Phrases
from wissel.core.bounds import Bounds
from wissel.core.intent import OTHER, Intent, choose_route
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route
from wissel.encoders.base import Encode, Encoder, Read, encode_with, read_with
from wissel.encoders.batching import Batcher
from wissel.errors import ConfigError, WisselError

LENGTHS = (11, 40, 123, 256)
"""Tokens: a short prompt, a long one, and as much as is read."""

REPEATS = 40
QUESTIONS = 6
"""Of a conversation; an answer stands between each two."""

CALLERS = 32
CALLS = 640
DRAWS = 20
PROTOCOLS = ((20, 5), (10, 0))
"""Intents and examples of each: few-shot and zero-shot."""

SENTENCE = "please could you tell me how we change the colour of this old house before next summer comes"
"""Each word is one token."""


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of CPU for one text."""

    tokens: int
    encoder_ms: float
    minilm_256_ms: float
    ratio: float


@dataclass(frozen=True)
class LastTurn:
    """Median milliseconds from the body to the route, for the last of so many questions, on one thread."""

    questions: int
    goes_on_ms: float
    """Where this replica saw the turns before: a new question, and the answer before it."""
    unseen_ms: float
    """Where it saw none of them."""


@dataclass(frozen=True)
class Throughput:
    """Different short texts a second, through one batcher."""

    alone: float
    together: float
    gain: float


@dataclass(frozen=True)
class Accuracy:
    """Means over the draws, in percent."""

    intents: int
    examples: int
    encoder: str
    no_threshold: float
    default_threshold: float
    other_recall: float
    mean_threshold: float


_Row = Latency | LastTurn | Throughput | Accuracy


@dataclass(frozen=True)
class Message:
    """One labelled message of the data."""

    text: str
    route: str


def measure_latency(encode: Encode, other: Encode) -> list[Latency]:
    """Both in turns, so that a busy machine slows both alike."""
    measured: list[Latency] = []
    for tokens in LENGTHS:
        text = " ".join(islice(cycle(SENTENCE.split()), tokens - 2))  # two tokens mark beginning and end
        times = [(_cpu_ms(encode, text), _cpu_ms(other, text)) for _ in range(REPEATS)]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        measured.append(Latency(tokens, ours, theirs, ours / theirs))
    return measured


async def measure_last_turn(read: Read) -> LastTurn:
    """Conversations in words that were never said before, to ten routes with examples."""
    rng = random.Random(1)
    said = iter(lambda: " ".join(rng.choices(SENTENCE.split(), k=9)) + f" {rng.randrange(10**6)}", None)
    routes = [Route(f"route_{number}", "m", examples=tuple(islice(said, 5))) for number in range(10)]
    batcher = Batcher(read, workers=1)
    classifier = EmbeddingClassifier(batcher, SimilarityMatcher(Phrases.of(routes), Phrasebook(read)))
    known: list[float] = []
    fresh: list[float] = []
    for _ in range(REPEATS):
        # Answers are longer than questions.
        texts = [text for _ in range(QUESTIONS) for text in (next(said), " ".join(islice(said, 4)))][:-1]
        known.extend([await _route(classifier, texts[:turn]) for turn in range(1, len(texts) + 1, 2)][-1:])
        fresh.append(await _route(classifier, [f"{text} again" for text in texts]))
    await batcher.close()
    return LastTurn(QUESTIONS, statistics.median(known), statistics.median(fresh))


async def _route(classifier: EmbeddingClassifier, texts: Sequence[str]) -> float:
    """Milliseconds for a conversation that the user begins, read as a request's body is."""
    messages = [
        {"role": role, "content": text} for role, text in zip(cycle(("user", "assistant")), texts, strict=False)
    ]
    body = json.dumps({"model": "auto", "messages": messages}).encode()
    began = time.perf_counter()
    bounds = Bounds()
    request = whole(understand(CHAT, CHAT.paths[0], {}, whole(read_body(body, bounds)), bounds))
    choose_route(await classifier.classify(request.conversation), fallback=OTHER)
    return (time.perf_counter() - began) * 1000


async def measure_throughput(read: Read) -> Throughput:
    """One caller after the other, then 32 at once; the better of three rounds each, in turns."""
    alone: list[float] = []
    together: list[float] = []
    for round_ in range(3):
        alone.append(await _texts_a_second(read, callers=1, seed=2 * round_))
        together.append(await _texts_a_second(read, callers=CALLERS, seed=2 * round_ + 1))
    return Throughput(max(alone), max(together), max(together) / max(alone))


async def measure_accuracy(name: str, read: Read, train: Sequence[Message], asked: Sequence[Message]) -> list[Accuracy]:
    """Few-shot and zero-shot, over random draws of intents and examples: the same draws for every encoder."""
    phrasebook: Phrasebook[Fitted] = Phrasebook(read)
    batcher = Batcher(read, queue_limit=len(asked), memory=len(asked))
    try:
        return [
            Accuracy(
                intents, examples, name, *await _mean_of_draws(batcher, phrasebook, train, asked, intents, examples)
            )
            for intents, examples in PROTOCOLS
        ]
    finally:
        await batcher.close()


async def _mean_of_draws(
    batcher: Batcher,
    phrasebook: Phrasebook[Fitted],
    train: Sequence[Message],
    asked: Sequence[Message],
    intents: int,
    examples: int,
) -> list[float]:
    rng = random.Random(1)
    by_route: dict[str, list[str]] = {}
    for message in train:
        if message.route != OTHER:
            by_route.setdefault(message.route, []).append(message.text)
    draws: list[tuple[float, float, float, float]] = []
    for _ in range(DRAWS):
        drawn = rng.sample(sorted(by_route), intents)
        routes = [Route(route, "m", examples=tuple(rng.sample(by_route[route], examples))) for route in drawn]
        classifier = EmbeddingClassifier(batcher, SimilarityMatcher(Phrases.of(routes), phrasebook))
        wanted = [message for message in asked if message.route in {*drawn, OTHER}]
        found = await asyncio.gather(*(_intent(classifier, message.text) for message in wanted))
        inside = [
            (message.route, intent) for message, intent in zip(wanted, found, strict=True) if message.route != OTHER
        ]
        outside = [intent for message, intent in zip(wanted, found, strict=True) if message.route == OTHER]
        draws.append(
            (
                _percent(max(intent.scores, key=intent.scores.__getitem__) == route for route, intent in inside),
                _percent(intent.route == route for route, intent in inside),
                _percent(intent.reason == "other" for intent in outside),
                classifier.threshold,
            )
        )
    return [statistics.fmean(column) for column in zip(*draws, strict=True)]


async def _intent(classifier: EmbeddingClassifier, text: str) -> Intent:
    scores = await classifier.classify(Conversation((Turn("user", text),)))
    return choose_route(scores, fallback=OTHER)


async def _texts_a_second(read: Read, *, callers: int, seed: int) -> float:
    """Every text is new, so that nothing is remembered."""
    rng = random.Random(seed)
    texts = iter([" ".join(rng.choices(SENTENCE.split(), k=9)) + f" {number}" for number in range(CALLS)])
    batcher = Batcher(read)

    async def caller() -> None:
        for text in texts:
            await batcher.read([text])

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    rate = CALLS / (time.perf_counter() - began)
    await batcher.close()
    return rate


def _cpu_ms(encode: Encode, text: str) -> float:
    began = time.process_time()
    encode([text])
    return (time.process_time() - began) * 1000


def _percent(rights: Iterable[bool]) -> float:
    return 100 * statistics.fmean(rights)


def read_messages(path: Path) -> list[Message]:
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [Message(row["messages"][-1]["content"], row["route"]) for row in rows]
    except OSError as error:
        raise ConfigError([f'--clinc: "{path}" cannot be read: {error}']) from error


def _table(title: str, rows: Sequence[_Row]) -> Table:
    table = Table(title=title)
    cells = [asdict(row) for row in rows]
    for name in cells[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in cells:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def _load() -> tuple[Encoder, Encode]:
    """The default encoder, and MiniLM on the first 256 tokens, both on one thread."""
    encoder, _ = load(section_of("joint"))
    return encoder, encode_with(FirstTokens().read)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; 2 if the model or the data are missing."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.classify", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--clinc", type=Path, metavar="FOLDER", help="CLINC150 as train.jsonl, val.jsonl, test.jsonl")
    parser.add_argument("--split", default="test", choices=["val", "test"], help="the rows that are asked")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        data = options.clinc and (
            read_messages(options.clinc / "train.jsonl"),
            read_messages(options.clinc / f"{options.split}.jsonl"),
        )
        encoder, minilm = _load()
        results: dict[str, Sequence[_Row]] = {
            "latency": measure_latency(encode_with(encoder.read), minilm),
            "last turn": [asyncio.run(measure_last_turn(encoder.read))],
            "throughput": [asyncio.run(measure_throughput(encoder.read))],
        }
        if data:
            both = (
                asyncio.run(measure_accuracy(name, read, *data))
                for name, read in ((encoder.name, encoder.read), ("minilm 256", read_with(minilm)))
            )
            results["accuracy"] = [row for rows in both for row in rows]
    except WisselError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({name: [asdict(row) for row in rows] for name, rows in results.items()}, indent=2))
    else:
        console = Console()
        for name, rows in results.items():
            console.print(_table(name, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
