"""Dialogues about code in which most turns mean nothing without those before them."""

import json
import re
from pathlib import Path

import pytest

from wissel.config import load
from wissel.evaluation.intent import evaluate

HERE = Path(__file__).parent
CONFIG, DIALOGUES = HERE / "dialogues.yaml", HERE / "dialogues.jsonl"

PAPER = (
    ("Hi", "other"),
    ("Write a function to visualize a dataframe", "code_generation"),
    ("This doesnt work", "bug_fixing"),
    ("Okay, now try the same thing for a dataframe with a label", "code_generation"),
    ("The code runs too slow, any way u can simplify it to make it faster?", "performance_optimization"),
    ("What are the functions that can be replaced from seaborn", "api_help"),
    ("Any other ones?", "api_help"),
    ("Thats all, thank you", "other"),
)
"""The dialogue of the Arch-Router paper (arXiv 2506.16655)."""


def threes(text):
    words = re.findall(r"[\w']+", text.lower().replace("'", ""))
    return set(zip(words, words[1:], words[2:], strict=False))


def test_no_example_gives_a_turn_away():
    turns = [json.loads(line)["user"] for line in DIALOGUES.read_text().splitlines()] + [text for text, _ in PAPER]
    examples = [example for route in load(CONFIG).routes for example in route.examples]

    assert not [(turn, each) for turn in turns for each in examples if threes(turn) & threes(each)]
    assert all(len(route.examples) <= 5 for route in load(CONFIG).routes)


@pytest.mark.slow
async def test_every_turn_of_the_papers_dialogue_is_understood(exported, tmp_path):
    data = tmp_path / "paper.jsonl"
    rows = [{"turn": turn, "user": text, "route": route} for turn, (text, route) in enumerate(PAPER, start=1)]
    data.write_text("\n".join(map(json.dumps, rows)))

    assert [answer.right for answer in (await evaluate(load(CONFIG), data)).answers] == [True] * 8


@pytest.mark.slow
async def test_of_other_dialogues_most_turns_are(exported):
    """34 of 37."""
    found = await evaluate(load(CONFIG), DIALOGUES)

    assert found.accuracy >= 0.9
