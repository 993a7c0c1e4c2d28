"""How intents are understood as users write them: in sixteen languages, at length, in runs of short turns.

    python -m tests.bench.languages [--encoder TYPE] [--clinc FOLDER] [--mmlu FILE] [--ui FILE] [--json]

The prompts of tests/evaluation/languages need nothing else. With CLINC150's folder and MMLU's questions also long
texts: a request in front of and behind 220 tokens of another subject, and texts of one subject; with --ui, a JSON
object from language to texts, how many ordinary texts are called not understood.
"""

import asyncio
import base64
import json
import random
import string
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from wissel.classifiers.base import Classifier
from wissel.classifiers.build import Classifiers
from wissel.config import Config, compile_snapshot, load, parse
from wissel.core.intent import Intent, choose_route
from wissel.core.request import Conversation, Role, Turn
from wissel.errors import WisselError

HERE = Path(__file__).parents[1] / "evaluation" / "languages"
SEED = 7
RUNS = (1, 2, 3, 4, 6, 8, 10, 13, 16, 20)
"""So many short turns each."""

FALLBACK = "general"
BESIDE_TOKENS = 220
WORDS_PER_TOKEN = 0.78
INTENTS = 30
REQUESTS = 150
LONG = (70, 300)
"""Tokens of MMLU's questions, by their bytes."""

QUESTIONS = 12
"""Of each of MMLU's subjects."""


BARE: Mapping[str, Any] = {"models": [{"name": "m", "cluster": "c"}], "entrypoints": ["auto"]}


def said(*texts: str) -> Conversation:
    """The user begins, and takes turns with the assistant, whose empty turns are left out."""
    roles = cast("Iterator[Role]", cycle(("user", "assistant")))
    return Conversation(tuple(Turn(role, text) for role, text in zip(roles, texts, strict=False) if text))


def with_examples(config: Config, examples: Mapping[str, Sequence[str]] | None) -> Config:
    """The same routes, with these examples; None leaves none."""
    routes = tuple(
        route.model_copy(update={"examples": tuple((examples or {}).get(route.name, ()))}) for route in config.routes
    )
    return config.model_copy(update={"routes": routes})


class Bench:
    """Classifies with one encoder."""

    def __init__(self, encoder: str) -> None:
        self._classifiers = Classifiers()
        self._encoder = encoder

    async def built(self, config: Config) -> Classifier:
        """The configuration's classifier, on this bench's encoder."""
        section = {"fallback": "r", "encoder": _section(self._encoder)}
        intent = parse(json.dumps({**BARE, "routes": [{"name": "r", "target": "m"}], "intent": section})).intent
        config = config.model_copy(update={"intent": config.intent.model_copy(update={"encoder": intent.encoder})})
        return await self._classifiers.build(config.intent, compile_snapshot(config))

    async def close(self) -> None:
        await self._classifiers.close()


def _section(name: str) -> dict[str, str]:
    return {"path": name} if "/" in name else {"type": name}


async def intent_of(classifier: Classifier, conversation: Conversation) -> Intent:
    return choose_route(await classifier.classify(conversation), fallback=FALLBACK)


async def prompts(bench: Bench, name: str) -> dict[str, Any]:
    """Right by language, without examples and with four."""
    config = load(HERE / f"{name}.yaml")
    rows = [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text("utf-8").splitlines()]
    found: dict[str, Any] = {}
    for label, examples in (("none", None), ("four", {each.name: each.examples for each in config.routes})):
        classifier = await bench.built(with_examples(config, examples))
        right: dict[str, list[bool]] = defaultdict(list)
        for row in rows:
            intent = await intent_of(classifier, said(row["messages"][0]["content"]))
            right[row["language"]].append(intent.reason == "match" and intent.route == row["route"])
        found[label] = {
            "right": _percent(each for rights in right.values() for each in rights),
            "by_language": {language: sum(rights) for language, rights in right.items()},
        }
    return found


async def follow_ups(bench: Bench) -> dict[str, Any]:
    """Routes kept over runs of short turns and small talk, and changes seen behind them."""
    config = load(HERE / "sixteen.yaml")
    written = json.loads((HERE / "follow_ups.json").read_text("utf-8"))
    rows = [json.loads(line) for line in (HERE / "sixteen.jsonl").read_text("utf-8").splitlines()]
    four = {each.name: each.examples for each in config.routes}
    many = {name: (*few, *written["many"].get(name, ())) for name, few in four.items()}
    found: dict[str, Any] = {}
    for label, examples in (("none", None), ("four", four), ("sixteen", many)):
        classifier = await bench.built(with_examples(config, examples))
        rng = random.Random(SEED)
        kept: list[bool] = []
        through_talk: list[bool] = []
        seen: list[bool] = []
        skipped = 0
        for language, turns in written["follow_ups"].items():
            own = [row for row in rows if row["language"] == language]
            for length in RUNS:
                first, other = _two(rng, own)
                answers = [rng.choice([*written["answers"][language], ""]) for _ in range(length + 1)]
                run = rng.sample(turns, length)
                opening = (await intent_of(classifier, said(_text(first)))).route == first["route"]
                change = (await intent_of(classifier, said(_text(other)))).route == other["route"]
                talk = [part for pair in zip(answers, run, strict=False) for part in pair]
                if opening:
                    kept.append((await intent_of(classifier, said(_text(first), *talk))).route == first["route"])
                    chat = [*talk, answers[-1], written["small_talk"][language]]
                    through_talk.append(
                        (await intent_of(classifier, said(_text(first), *chat))).route == first["route"]
                    )
                if opening and change:
                    turned = await intent_of(classifier, said(_text(first), *talk, answers[-1], _text(other)))
                    seen.append(turned.route == other["route"])
                skipped += not opening
        found[label] = {
            "runs": len(kept),
            "kept": _percent(kept),
            "kept_through_small_talk": _percent(through_talk),
            "changes": len(seen),
            "seen": _percent(seen),
            "left_out": skipped,
        }
    return found


def _two(rng: random.Random, rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    first = rng.choice(rows)
    return first, rng.choice([row for row in rows if row["route"] != first["route"]])


def _text(row: Mapping[str, Any]) -> str:
    return row["messages"][0]["content"]


STRANGE = HERE / "strange.json"
"""Requests in two languages that none of the packaged encoders knows."""


async def unknown(bench: Bench, ui: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Of each kind of text the share that is called not understood."""
    classifier = await bench.built(load(HERE / "sixteen.yaml"))
    rng = random.Random(SEED)
    kinds: dict[str, list[str]] = {
        **json.loads(STRANGE.read_text("utf-8")),
        "base64": [base64.b64encode(rng.randbytes(size)).decode() for size in (18, 45, 90, 200) for _ in range(25)],
        "noise": ["".join(rng.choices(string.ascii_letters + string.digits + " ", k=size)) for size in (15, 40, 90)
                  for _ in range(30)],
    }  # fmt: skip
    for row in (json.loads(line) for line in (HERE / "sixteen.jsonl").read_text("utf-8").splitlines()):
        kinds.setdefault("prompts", []).append(_text(row))
    for language, texts in ui.items():
        kinds[f"ui {language}"] = list(texts)
    return {
        name: _percent([(await intent_of(classifier, said(text))).reason == "not_understood" for text in texts])
        for name, texts in kinds.items()
    }


async def long_texts(bench: Bench, clinc: Path, questions: Sequence[Mapping[str, str]], split: str) -> dict[str, float]:
    """Requests beside another subject, and texts of one subject; shares that are right, whatever the threshold."""
    rng = random.Random(SEED)
    subjects: dict[str, list[str]] = defaultdict(list)
    for row in questions:
        subjects[row["subject"]].append(row["prompt"])
    found: dict[str, float] = {}
    examples: dict[str, list[str]] = {}
    asked: list[tuple[str, str]] = []
    for subject, texts in sorted(subjects.items()):
        drawn = rng.sample(texts, len(texts))
        examples[subject] = drawn[:10]
        fits = [text for text in drawn[10:] if LONG[0] <= len(text.encode()) / 4 <= LONG[1]]
        asked += [(text, subject) for text in fits[:QUESTIONS]]
    found["one subject"] = await _leading(bench, examples, asked)
    fill = [text for texts in subjects.values() for text in texts]
    train, val = (_by_route(clinc / f"{name}.jsonl") for name in ("train", split))
    routes = rng.sample(sorted(train), INTENTS)
    few = {name: rng.sample(train[name], 10) for name in routes}
    requests = rng.sample([(text, name) for name in routes for text in val[name]], REQUESTS)
    pasted = [(text, name, _beside(rng, fill)) for text, name in requests]
    for label, joined in (
        ("request first", [(f"{text} {beside}", name) for text, name, beside in pasted]),
        ("request last", [(f"{beside} {text}", name) for text, name, beside in pasted]),
        ("request last, a paragraph", [(f"{beside}\n\n{text}", name) for text, name, beside in pasted]),
        ("between pastes", [(f"{beside}\n\n{text}\n\n{beside}", name) for text, name, beside in pasted]),
        ("request alone", requests),
    ):
        found[label] = await _leading(bench, few, joined)
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    # Some questions have a line separator of Unicode in them.
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]


def _by_route(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in map(json.loads, path.read_text("utf-8").splitlines()):
        if row["route"] != "other":
            found[row["route"]].append(row["messages"][-1]["content"])
    return found


def _beside(rng: random.Random, fill: Sequence[str]) -> str:
    words = (word for _ in iter(int, 1) for word in rng.choice(fill).split("\nA.")[0].split())
    return " ".join(islice(words, int(BESIDE_TOKENS * WORDS_PER_TOKEN)))


async def _leading(bench: Bench, examples: Mapping[str, Sequence[str]], asked: Sequence[tuple[str, str]]) -> float:
    routes = [{"name": name, "target": "m", "examples": list(texts)} for name, texts in examples.items()]
    everywhere = [*routes, {"name": FALLBACK, "target": "m"}]
    config = parse(json.dumps({**BARE, "routes": everywhere, "intent": {"fallback": FALLBACK}}))
    classifier = await bench.built(config)
    rights: list[bool] = []
    for text, name in asked:
        scores = await classifier.classify(said(text))
        rights.append(bool(scores.by_route) and scores.ranking[0][0] == name)
    return _percent(rights)


def _percent(rights: Iterable[bool]) -> float:
    rights = list(rights)
    return 100 * sum(rights) / max(1, len(rights))


async def measure(
    encoder: str, clinc: Path | None, mmlu: Path | None, ui: Mapping[str, Sequence[str]], split: str
) -> dict[str, Any]:
    """Everything."""
    bench = Bench(encoder)
    try:
        found: dict[str, Any] = {
            "forty prompts": await prompts(bench, "forty"),
            "sixteen languages": await prompts(bench, "sixteen"),
            "follow-ups": await follow_ups(bench),
            "not understood": await unknown(bench, ui),
        }
        if clinc and mmlu:
            found["long texts"] = await long_texts(bench, clinc, _rows(mmlu), split)
    finally:
        await bench.close()
    return found


def main(
    encoder: Annotated[str, typer.Option(help="A type of encoder, or the folder of an export.")] = "joint",
    clinc: Annotated[Path | None, typer.Option(help="A folder with CLINC150.")] = None,
    mmlu: Annotated[Path | None, typer.Option(help="JSONL with MMLU's prompts and their subject.")] = None,
    ui: Annotated[Path | None, typer.Option(help="JSON: texts by language.")] = None,
    split: Annotated[str, typer.Option(help="CLINC150's rows that are asked.")] = "test",
) -> None:
    """Measures and prints JSON; exits with 2 if the encoder or the data are missing."""
    try:
        texts: dict[str, list[str]] = json.loads(ui.read_text("utf-8")) if ui else {}
        print(json.dumps(asyncio.run(measure(encoder, clinc, mmlu, texts, split)), indent=1, ensure_ascii=False))
    except (WisselError, OSError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
