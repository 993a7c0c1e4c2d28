"""What coding agents send: the question of a person among rules, files, reminders and results of tools.

`agents/requests.jsonl` is made after the public documentation of five harnesses. With the blocks left in
(`intent: {strip: []}`) half of it is understood.
"""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from wissel.config import load
from wissel.evaluation.intent import evaluate, read_rows

HERE = Path(__file__).parent / "agents"
CONFIG, REQUESTS = HERE / "config.yaml", HERE / "requests.jsonl"


@cache
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in REQUESTS.read_text().splitlines()]


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}


def test_five_harnesses_send_their_noise_in_all_ways():
    counts = {name: Counter(each[name] for each in rows()) for name in ("harness", "way", "noise", "long")}

    assert len(rows()) >= 120
    assert set(counts["harness"]) == {"claude_code", "codex", "cline", "cursor", "opencode"}
    assert min(counts["way"][name] for name in ("first", "later", "loop", "noise")) >= 20
    assert counts["long"][True] >= len(rows()) / 2
    assert len(rows()) - counts["noise"]["known"] >= len(rows()) / 4


def test_no_example_gives_a_question_away():
    words = {run for example in load(CONFIG).routes for text in example.examples for run in runs(text, 4)}
    said = [turn.text for row in read_rows(REQUESTS, load_routes()) for turn in row.conversation.turns]

    assert not [text for text in said if runs(text, 4) & words]


def load_routes() -> list[str]:
    return [route.name for route in load(CONFIG).routes]


def test_of_a_turn_that_is_a_harness_alone_nothing_is_left():
    """So intent is asked what it was asked before that turn came, and the route stays."""
    for given, read in zip(rows(), read_rows(REQUESTS, load_routes()), strict=True):
        if given["way"] == "noise":
            assert read.conversation.turns[-1].role == "assistant", given["harness"]


@pytest.mark.slow
async def test_nearly_every_question_finds_its_route(exported):
    """125 of 130."""
    found = await evaluate(load(CONFIG), REQUESTS)

    assert found.accuracy >= 0.95


@pytest.mark.slow
async def test_with_the_blocks_left_in_they_are_lost(exported):
    """70 of 130."""
    config = load(CONFIG)
    found = await evaluate(
        config.model_copy(update={"intent": config.intent.model_copy(update={"strip": ()})}), REQUESTS
    )

    assert found.accuracy <= 0.6
