"""Files of labels to graders on disk."""

import json
from pathlib import Path

import numpy as np
import pytest

from tiers.world import encode, rows, write
from wissel.errors import ConfigError
from wissel.tiers import artifact
from wissel.tiers.base import Prompts
from wissel.tiers.data import Source, read
from wissel.tiers.train import Recipe, train


def lines(path: Path, *found: dict) -> Source:
    return Source(write(path, list(found)))


def test_correctness_becomes_battles_of_the_strong_and_the_weak(tmp_path):
    found = read(lines(tmp_path / "d", {"prompt": " why? ", "strong": 1, "weak": 0.5}), Prompts.without_vectors)

    assert (found.models, found.prompts.texts, found.outcomes.tolist()) == (("strong", "weak"), ("why?",), [0.75])


@pytest.mark.parametrize(
    ("winner", "outcome"), [("model_a", 1.0), ("model_b", 0.0), ("tie", 0.5), ("tie (bothbad)", 0.5), ("y", 0.0)]
)
def test_battles_have_a_winner_or_none(tmp_path, winner, outcome):
    row = {"prompt": "why?", "model_a": "x", "model_b": "y", "winner": winner}

    assert read(lines(tmp_path / "d", row), Prompts.without_vectors).outcomes.tolist() == [outcome]


def test_weights_of_files_and_of_rows_multiply(tmp_path):
    source = lines(tmp_path / "d", {"prompt": "why?", "strong": 1, "weak": 0, "weight": 3})

    assert read(Source(source.path, 2.0), Prompts.without_vectors).weights.tolist() == [6.0]


def test_a_line_may_hold_any_sign_that_json_may(tmp_path):
    (tmp_path / "d").write_text('{"prompt": "one\u2028two", "strong": 1, "weak": 0}\n')

    assert len(read(Source(tmp_path / "d"), Prompts.without_vectors)) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"strong": 1, "weak": 0}, 'd:1: "prompt" should be some text'),
        ({"prompt": "a", "strong": 1}, 'should have "strong" and "weak", or "model_a"'),
        ({"prompt": "a", "strong": 2, "weak": 0}, '"strong" is 2; it should be a number from 0 to 1'),
        ({"prompt": "a", "model_a": "x", "model_b": "x", "winner": "tie"}, "should name two models"),
        ({"prompt": "a", "model_a": "x", "model_b": "y", "winner": "z"}, '"winner" is "z"'),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, row, said):
    with pytest.raises(ConfigError) as caught:
        read(lines(tmp_path / "d", row), Prompts.without_vectors)

    assert said in str(caught.value)


def test_a_file_that_is_no_json_names_the_line(tmp_path):
    (tmp_path / "d").write_text('{"prompt": "a", "strong": 1, "weak": 0}\nnot json\n')

    with pytest.raises(ConfigError, match="d:2: "):
        read(Source(tmp_path / "d"), Prompts.without_vectors)


@pytest.mark.parametrize(
    ("written", "source"), [("a.jsonl", Source(Path("a.jsonl"))), ("a.jsonl:2.5", Source(Path("a.jsonl"), 2.5))]
)
def test_a_source_is_a_file_and_a_weight(written, source):
    assert Source.parse(written) == source


def test_a_weight_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="greater than 0"):
        Source.parse("a.jsonl:0")


def test_training_leaves_a_grader_and_a_card_that_says_what_it_knows(tmp_path):
    source = Source(write(tmp_path / "labels.jsonl", rows(300)))
    train(Recipe("similarity"), [source], tmp_path / "out", encode=encode)
    grader, card = artifact.load(tmp_path / "out")

    assert card.data[0] == {"file": "labels.jsonl", "sha256": source.digest(), "rows": 300, "weight": 1.0}
    assert card.validation["labels.jsonl"]["grader"]["apgr"] > card.validation["labels.jsonl"]["random"]["apgr"]
    assert "numpy" in card.versions
    assert 0 < grader.win_rates(Prompts.embed(["please tell about proof"], encode))[0] < 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["card.json", "grader.safetensors"]


def test_the_same_seed_makes_the_same_grader(tmp_path):
    source = Source(write(tmp_path / "labels.jsonl", rows(200)))
    for out in ("one", "two"):
        train(Recipe("factorization", seed=3), [source], tmp_path / out, encode=encode)

    assert (tmp_path / "one/grader.safetensors").read_bytes() == (tmp_path / "two/grader.safetensors").read_bytes()
    assert json.loads((tmp_path / "one/card.json").read_text()) == json.loads((tmp_path / "two/card.json").read_text())


def test_augmentation_shows_what_it_adds(tmp_path):
    """The first file says nothing about difficulty; the second one does."""
    silent = [{**row, "strong": at % 2, "weak": int(at % 3 == 0)} for at, row in enumerate(rows(200, seed=4))]
    sources = [
        Source(write(tmp_path / "arena.jsonl", silent)),
        Source(write(tmp_path / "gold.jsonl", rows(300, seed=5)), 3.0),
    ]
    card = train(Recipe("similarity"), sources, tmp_path / "out", encode=encode)
    gold = card.validation["gold.jsonl"]

    assert gold["grader"]["apgr"] > gold["first_file_only"]["apgr"]


def test_a_card_calibrates_a_threshold_for_a_share(tmp_path):
    source = Source(write(tmp_path / "labels.jsonl", rows(400)))
    card = train(Recipe("similarity"), [source], tmp_path / "out", encode=encode)
    grader, _ = artifact.load(tmp_path / "out")
    fresh = Prompts.embed([row["prompt"] for row in rows(400, seed=9)], encode)
    share = np.mean(grader.win_rates(fresh) >= card.threshold(0.3))

    assert share == pytest.approx(0.3, abs=0.12)


def test_labels_that_teach_nothing_are_refused(tmp_path):
    source = Source(write(tmp_path / "labels.jsonl", [{**row, "strong": 1, "weak": 1} for row in rows(50)]))

    with pytest.raises(ConfigError, match="and a difference between the two"):
        train(Recipe("similarity"), [source], tmp_path / "out", encode=encode)
