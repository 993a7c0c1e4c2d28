"""A trained grader, measured; and the commands that do it."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.bench.cross_validation import beside, cached, change_of_traffic, cross_validate, folds
from tests.bench.tiers import budgets, lines, tables
from typer.testing import CliRunner

from tiers.world import EASY, battles, encode, rows, write
from wissel.cli import app
from wissel.core.tier import Tier
from wissel.evaluation.tier_report import assess, hold, page, play
from wissel.tiers import artifact
from wissel.tiers.data import Source
from wissel.tiers.train import Recipe, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("grader")
    source = Source(write(place / "labels.jsonl", rows(400, seed=1)))
    train(Recipe("similarity"), [source], place / "out", encode=encode)
    return place / "out"


def test_an_assessment_has_the_figures_and_the_baselines_beside_them(folder):
    grader, card = artifact.load(folder)
    found = assess(grader, card, battles(200, seed=2), prices=(24.7, 0.24))

    assert found["apgr"] > found["baselines"]["random"]["apgr"]
    assert set(found["cpt"]) == {"20", "50", "80"}
    assert set(found["baselines"]) == {"random", "length", "always_strong", "always_weak", "oracle"}
    assert found["baselines"]["oracle"]["apgr"] > found["apgr"]
    assert 0 < found["relative_cost"]["50"] < 1
    assert json.loads(json.dumps(found)) == found


def test_a_budget_is_held_where_the_calibrated_threshold_is_not(folder):
    """The same win rates, all of them lower: what a change of traffic looks like."""
    grader, card = artifact.load(folder)
    seen = battles(600, seed=3)
    moved = grader.win_rates(seen.prompts) - 0.1
    held = hold(moved, seen.ends.gain, card, 0.3, seed=0)

    assert abs(held.fixed - 0.3) > 0.1
    assert held.held == pytest.approx(0.3, abs=0.04)


def test_a_page_needs_nothing_else_and_escapes_what_it_is_told(folder):
    grader, card = artifact.load(folder)
    shown = page(assess(grader, card, battles(100, seed=2)), title="<script>alert(1)</script>")
    HTMLParser().feed(shown)

    assert "<script" not in shown
    assert "<svg" in shown
    assert "http" not in shown
    assert "oracle" in shown
    assert "saves at 50 %" in shown


def test_a_fixed_threshold_is_played_as_it_is():
    assert play(Tier("t", "s", "w", 0.5), [0.4, 0.5, 0.6]) == [False, True, True]


def test_every_row_is_predicted_once_and_never_learned_from_by_its_own_grader():
    seen: list[int] = []
    for known, held in folds(23, seed=0):
        assert not set(known.tolist()) & set(held.tolist())
        seen += held.tolist()

    assert sorted(seen) == list(range(23))


@pytest.mark.slow
def test_cross_validation_finds_that_a_grader_is_better_than_the_baselines():
    labels = battles(400)
    found, others = cross_validate(Recipe("similarity"), labels, rows=200), beside(labels, seed=0)

    assert others["random"].figures.apgr < found.figures.apgr < others["oracle"].figures.apgr
    assert len(found.folds) == 5


def test_a_change_of_traffic_moves_a_fixed_threshold_and_not_the_budget():
    labels, others = battles(1000), battles(600, seed=7)
    easy = others.take(np.array([at for at, topic in enumerate(others.topics) if topic in EASY]))
    changes = change_of_traffic(Recipe("intent"), labels, easy.prompts, 0.5)
    found = np.mean([[each.before, each.after, each.after_fixed] for each in changes], axis=0)

    assert found[:2] == pytest.approx(0.5, abs=0.03)
    assert abs(found[2] - 0.5) > 0.2


def test_vectors_are_computed_once_for_a_file(tmp_path):
    calls: list[int] = []

    def counting(texts):
        calls.append(len(texts))
        return encode(texts)

    once, again = (cached(counting, tmp_path)(["proof", "recipe"]) for _ in range(2))

    np.testing.assert_array_equal(once, again)
    assert calls == [2]


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["tier", *map(str, arguments)])


def test_the_commands_train_calibrate_and_measure_a_grader_that_reads_texts(tmp_path):
    labels = write(tmp_path / "labels.jsonl", rows(300))
    trained = invoke("train", "--router", "length", "--data", labels, "--out", tmp_path / "out")
    calibrated = invoke("calibrate", "--router", tmp_path / "out", "--strong-share", 0.3, "--data", labels, "--json")
    measured = invoke(
        "eval", "--router", tmp_path / "out", "--data", labels, "--json", "--report", tmp_path / "page.html"
    )

    assert trained.exit_code == 0, trained.output
    assert json.loads(calibrated.output)["realised"] == pytest.approx(0.3, abs=0.15)
    assert {"apgr", "apgr_ten_bins", "cpt", "baselines"} <= set(json.loads(measured.stdout))
    assert "prove nothing" in measured.stderr
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--router", "best", "--data", "x", "--out", "y"), "it should be one of"),
        (("train", "--data", "missing.jsonl", "--out", "y"), "cannot be read"),
        (("calibrate", "--router", "nowhere", "--strong-share", "3"), "between 0 and 1"),
    ],
)
def test_what_cannot_be_done_is_bad_usage(arguments, said):
    result = invoke(*arguments)

    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


@pytest.mark.slow
def test_every_protocol_has_its_table_and_length_stands_beside_gsm8k():
    files = {"MMLU": battles(200, seed=1), "GSM8K": battles(100, seed=2)}
    told: list[str] = []
    found = tables(files, encoder=False, few=40, progress=told.append)
    held = budgets(files["MMLU"], files["GSM8K"].prompts)
    shown = "\n".join(lines({"similarity": {"labels": 10, "p50": 0.1, "p99": 0.2}}, found, held))

    assert list(found) == [
        "MMLU, five-fold, 160 labels",
        "MMLU, five-fold, 40 labels",
        "MMLU, five-fold, 160 one-sided labels",
        "GSM8K, five-fold, 80 labels",
        "GSM8K, learned from 200 labels of MMLU",
    ]
    assert all("length" in results for title, results in found.items() if title.startswith("GSM8K"))
    assert len(held) == 9
    assert "budget 30 %: MMLU" in shown
    assert "similarity: fold 5 of 5" in "\n".join(told)
