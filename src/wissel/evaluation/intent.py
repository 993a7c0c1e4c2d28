"""How well intents are found: the configured classifier over labelled conversations.

    rows (messages and the routes that are right) -> classifier, one after the other -> answers -> figures

Every row is classified as a request would be, by the same classifier and the
same choice of a route, so what is measured is what is served. Rows that no
route serves have "other" for their route; the configured fallback counts as
that, because it is what such a request gets.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, cast

from wissel.apis.body import read_body
from wissel.apis.chat import CHAT
from wissel.apis.requests import understand
from wissel.apis.table import APIS
from wissel.apis.windows import whole
from wissel.classifiers.base import Classifier
from wissel.classifiers.build import Classifiers
from wissel.classifiers.phrases import phrases_of
from wissel.config import Config, compile_snapshot
from wissel.config.shapes import suggestion
from wissel.core.bounds import Bounds
from wissel.core.harness import HARNESS, Harness
from wissel.core.intent import OTHER, Intent, NoScores, Scores, choose_route
from wissel.core.request import Conversation, Request, Turn
from wissel.core.snapshot import Route
from wissel.encoders.base import Encode
from wissel.errors import ConfigError, UnreadableError, WorldError
from wissel.evaluation.figures import (
    Bin,
    Quality,
    auroc,
    calibration_error,
    macro_f1,
    mcnemar,
    percentile,
    qualities,
    recall_at,
    reliability,
    share_of_whole,
)

FALSE_ALARMS = 0.05
"""Of the rows that belong to a route, when it is asked how many of the others are found."""

PAIRS = 10
EXAMPLES = 3
"""Confusions that are told, and messages of each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation up to the turn that is to be understood."""

    conversation: Conversation
    routes: frozenset[str]
    """Each of them is right."""
    id: str | None = None
    """What it shares with the other turns of the same conversation."""


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What the classifier made of a row."""

    predicted: str
    """A route, or "other"."""
    right: bool
    leading: bool
    """Whether the best route is right, whatever the threshold makes of its score."""
    confidence: float
    """How likely the classifier holds this to be right, from 0 to 1."""
    belonging: float
    """The best score of any route: low for what belongs to none."""
    milliseconds: float
    cpu_ms: float
    """Of all threads of the process."""
    classifier: str
    """Which one gave it; a cascade has several. Empty if none did."""
    trouble: str
    """What kept a classifier that was asked from answering."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows of one route that were taken for another."""

    wanted: str
    predicted: str
    count: int
    messages: tuple[str, ...]
    """The last ones said, of some of them."""
    phrases: tuple[tuple[str, str], ...] = ()
    """For each message the nearest phrase of the right route, and that of the wrong one, which drew it away."""


@dataclass(frozen=True)
class Evaluation:
    """One run."""

    revision: str
    classifier: str
    data: str
    """A hash of the rows: only runs over the same ones can be compared."""
    answers: tuple[RowAnswer, ...]
    outside: tuple[bool, ...]
    """Of each row, whether it belongs to no route."""
    by_route: Mapping[str, Quality]
    conversation_accuracy: float | None
    bins: tuple[Bin, ...]
    confusions: tuple[Confusion, ...]
    """The commonest ones."""
    baselines: Mapping[str, float]
    late: float
    """The share that took longer than the deadline; their answers count here, where a request gets the fallback."""

    @property
    def failed(self) -> int:
        """Rows that no classifier answered."""
        return sum(not each.classifier for each in self.answers)

    @property
    def troubles(self) -> Counter[str]:
        """What kept classifiers from answering, the first first, and of how many rows."""
        return Counter(each.trouble for each in self.answers if each.trouble)

    @property
    def untold(self) -> int:
        """Wrong rows of rarer confusions."""
        return sum(not each.right for each in self.answers) - sum(each.count for each in self.confusions)

    @property
    def accuracy(self) -> float:
        return sum(each.right for each in self.answers) / len(self.answers)

    @property
    def other_scores(self) -> tuple[list[float], list[float]]:
        """How little belongs to any route: of the rows that belong to none, and of the others."""
        strangeness = [(-each.belonging, out) for each, out in zip(self.answers, self.outside, strict=True)]
        return [score for score, out in strangeness if out], [score for score, out in strangeness if not out]

    @property
    def milliseconds(self) -> list[float]:
        return [each.milliseconds for each in self.answers]

    def view(self) -> dict[str, Any]:
        """As JSON has it."""
        positives, negatives = self.other_scores
        return {
            "revision": self.revision,
            "classifier": self.classifier,
            "data": self.data,
            "count": len(self.answers),
            "accuracy": self.accuracy,
            "turn_accuracy": self.accuracy,
            "conversation_accuracy": self.conversation_accuracy,
            "macro_f1": macro_f1(self.by_route),
            "other_auroc": auroc(positives, negatives),
            "other_recall": {"false_alarms": FALSE_ALARMS, "recall": recall_at(positives, negatives, FALSE_ALARMS)},
            "calibration_error": calibration_error(self.bins),
            "latency_ms": {f"p{share}": percentile(self.milliseconds, share / 100) for share in (50, 90, 99)},
            "cpu_ms": sum(each.cpu_ms for each in self.answers) / len(self.answers),
            "answered_by": dict(Counter(each.classifier for each in self.answers if each.classifier)),
            "late": self.late,
            "failed": self.failed,
            "troubles": dict(self.troubles),
            "baselines": dict(self.baselines),
            "routes": {name: asdict(each) for name, each in self.by_route.items()},
            "confusions": [asdict(each) for each in self.confusions],
            "rows": [{"predicted": each.predicted, "right": each.right} for each in self.answers],
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """Two runs over the same rows."""

    accuracies: tuple[float, float]
    only_first: int
    only_second: int
    """Rows that just this run has right."""
    p_value: float
    """Of McNemar's exact test."""


def read_rows(path: Path, routes: Iterable[str], harness: Harness = HARNESS) -> list[Row]:
    """The rows of a JSONL file. Raises ConfigError that names the line."""
    known = {*routes, OTHER}
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError([f'--data: "{path}" cannot be read: {error.strerror}']) from error
    except ValueError as error:
        raise ConfigError([f'--data: "{path}" is not UTF-8: {error}']) from error
    rows: list[Row] = []
    said: list[dict[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = cast("dict[str, Any]", json.loads(line))
            if "user" in value:
                # A dialogue written turn by turn, of which only the user's words are known.
                said = [*(said if value["turn"] > 1 else []), {"role": "user", "content": value["user"]}]
                value = {"messages": said, "conversation": "dialogue", **value}
            row = _row(value, harness)
        except (ValueError, LookupError, TypeError, AttributeError, UnreadableError) as error:
            wanted = "should be a JSON object with messages and route or routes"
            raise ConfigError([f"{path}:{number}: {wanted}: {_why(error)}"]) from error
        if strange := sorted(row.routes - known):
            hint = suggestion(strange[0], known)
            raise ConfigError([f'{path}:{number}: the configuration has no route "{strange[0]}"{hint}'])
        rows.append(row)
    if not rows:
        raise ConfigError([f'--data: "{path}" has no rows'])
    return rows


def _row(value: Mapping[str, Any], harness: Harness) -> Row:
    api = APIS[value.get("api", CHAT.name)]
    asked = value["body"] if "body" in value else {"messages": value["messages"]}
    body = json.dumps({**asked, "model": "auto"}).encode()
    bounds = Bounds()
    request: Request = whole(understand(api, api.paths[0], {}, whole(read_body(body, bounds)), bounds))
    routes = frozenset(map(str, value["routes"] if "routes" in value else [value["route"]]))
    if not routes:
        raise ValueError('"routes" is empty; for what no route serves write "other"')
    if not request.conversation.last_user:
        raise ValueError('"messages" has nothing that a user says')
    conversation = value.get("conversation")
    return Row(harness.spoken_only(request.conversation), routes, None if conversation is None else str(conversation))


def _why(error: Exception) -> str:
    """What is wrong with a value that was written by somebody else."""
    match error:
        case KeyError(args=(name,)):
            return f'"{name}" is missing'
        case TypeError() | AttributeError():
            return "its values are of the wrong kind"
        case _:
            return str(error)


async def evaluate(config: Config, path: Path, *, clashes: bool = False) -> Evaluation:
    """Runs the configured classifier over the rows at `path`; with `clashes` phrases are named that drew wrong answers.

    Raises ConfigError for the data, and WorldError if the classifier cannot be had.
    """
    snapshot = compile_snapshot(config)
    rows = read_rows(path, snapshot.routes, snapshot.harness)
    classifiers = Classifiers()
    encode: Encode | None = None
    try:
        classifier = await classifiers.build(config.intent, snapshot)
        if clashes:
            encode = await classifiers.encode(config.intent.encoder)
        fallback = snapshot.fallback
        answers = await _answers(classifier, rows, fallback)
        longer = [row for row in rows if sum(turn.role == "user" for turn in row.conversation.turns) > 1]
        alone = [Row(Conversation((Turn("user", row.conversation.last_user),)), row.routes, row.id) for row in rows]
        last_turn = await _answers(classifier, alone, fallback) if longer else answers
    finally:
        await classifiers.close()
    wanted = [each.predicted if each.right else min(row.routes) for row, each in zip(rows, answers, strict=True)]
    common = Counter(route for row in rows for route in _accepted(row, fallback)).most_common(1)[0][1]
    return Evaluation(
        revision=snapshot.revision,
        classifier=config.intent.classifier.type,
        data=_digest(rows),
        answers=tuple(answers),
        outside=tuple(OTHER in _accepted(row, fallback) for row in rows),
        by_route=qualities(wanted, [each.predicted for each in answers]),
        conversation_accuracy=share_of_whole([row.id for row in rows], [each.right for each in answers]),
        bins=tuple(reliability([each.confidence for each in answers], [each.right for each in answers])),
        confusions=_confusions(rows, wanted, answers, snapshot.routes, encode),
        baselines={
            "majority": common / len(rows),
            "last_turn": sum(each.right for each in last_turn) / len(rows),
        },
        late=sum(each.milliseconds > config.intent.deadline_ms for each in answers) / len(rows),
    )


def compare(first: Path, second: Path) -> Difference:
    """Two saved results. Raises ConfigError if they are no results, or not of the same rows."""
    (data, one), (other_data, two) = _saved(first), _saved(second)
    if data != other_data:
        raise ConfigError([f'--compare: "{first}" and "{second}" were measured on different rows'])
    only_first = sum(a and not b for a, b in zip(one, two, strict=True))
    only_second = sum(b and not a for a, b in zip(one, two, strict=True))
    accuracies = sum(one) / len(one), sum(two) / len(two)
    return Difference(accuracies, only_first, only_second, mcnemar(only_first, only_second))


def _saved(path: Path) -> tuple[str, list[bool]]:
    """Which rows were asked, and which answers were right."""
    try:
        found = cast("dict[str, Any]", json.loads(path.read_text("utf-8")))
        right = [bool(row["right"]) for row in found["rows"]]
        return str(found["data"]), right
    except OSError as error:
        raise ConfigError([f'--compare: "{path}" cannot be read: {error.strerror}']) from error
    except (ValueError, LookupError, TypeError) as error:
        wanted = "should be what `wissel eval --json` printed"
        raise ConfigError([f'--compare: "{path}" {wanted}: {_why(error)}']) from error


async def _answers(classifier: Classifier, rows: Sequence[Row], fallback: str) -> list[RowAnswer]:
    answers: list[RowAnswer] = []
    for row in rows:
        began, worked = perf_counter(), process_time()
        try:
            scores: Scores | NoScores = await classifier.classify(row.conversation)
        except WorldError as error:
            scores = NoScores("failed", str(error))
        answers.append(
            _answer(row, scores, fallback, 1000 * (perf_counter() - began), 1000 * (process_time() - worked))
        )
        await asyncio.sleep(0)
    return answers


def _answer(row: Row, scores: Scores | NoScores, fallback: str, milliseconds: float, cpu_ms: float) -> RowAnswer:
    intent: Intent = choose_route(scores, fallback=fallback)
    predicted = intent.route if intent.reason == "match" else OTHER
    accepted = _accepted(row, fallback)
    belonging = max((score for name, score in intent.scores.items() if name not in {OTHER, fallback}), default=0.0)
    # A router model's scores are probabilities, of "other" too.
    confidence = (intent.score or 0.0) if intent.confidence is None else intent.confidence
    right = predicted in accepted
    # Of several names for what no route serves, the row's own.
    named = next(iter(accepted & row.routes)) if right and predicted not in row.routes else predicted
    leading = max(intent.scores, key=lambda name: intent.scores[name], default=OTHER) in accepted
    sure = min(1.0, max(0.0, confidence))
    return RowAnswer(named, right, leading, sure, belonging, milliseconds, cpu_ms, intent.classifier, intent.detail)


def _accepted(row: Row, fallback: str) -> frozenset[str]:
    return row.routes | {OTHER, fallback} if row.routes & {OTHER, fallback} else row.routes


def _digest(rows: Sequence[Row]) -> str:
    text = "\n".join(f"{row.conversation.turns} {sorted(row.routes)}" for row in rows)
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def _confusions(
    rows: Sequence[Row],
    wanted: Sequence[str],
    answers: Sequence[RowAnswer],
    routes: Mapping[str, Route],
    encode: Encode | None,
) -> tuple[Confusion, ...]:
    said: dict[tuple[str, str], list[str]] = {}
    for row, want, answer in zip(rows, wanted, answers, strict=True):
        if not answer.right:
            said.setdefault((want, answer.predicted), []).append(row.conversation.last_user)
    most = sorted(said.items(), key=lambda item: (-len(item[1]), item[0]))[:PAIRS]
    return tuple(
        Confusion(*pair, len(messages), tuple(messages[:EXAMPLES]), _clashes(pair, messages[:EXAMPLES], routes, encode))
        for pair, messages in most
    )


def _clashes(
    pair: tuple[str, str], messages: Sequence[str], routes: Mapping[str, Route], encode: Encode | None
) -> tuple[tuple[str, str], ...]:
    if encode is None or not all(name in routes for name in pair):
        return ()
    asked = encode(messages)
    nearest: list[list[str]] = []
    for name in pair:
        phrases = [*phrases_of(routes[name]), *routes[name].examples]
        nearest.append([phrases[place] for place in (asked @ encode(phrases).T).argmax(axis=1)])
    return tuple(zip(*nearest, strict=True))
