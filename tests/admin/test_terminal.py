"""Standings in a terminal."""

from typing import Any

import pytest
from rich.console import Console

from wissel.admin.terminal import experiment_tree, history_table, standing_tree, standings_table, step_line

READING: dict[str, Any] = {
    "metric": "error_rate allowed_increase 0.02",
    "judgement": "pass",
    "canary": 0.021,
    "stable": 0.02,
    "change": [None, 0.05],
    "is_relative": False,
    "dry_run": True,
    "note": "not shown to be worse",
    "limit": {"unit": "share"},
}

STANDING: dict[str, Any] = {
    "name": "chat",
    "revision": "0a1b2c3d4e5f",
    "stable": "[old]",
    "canary": "new",
    "phase": "progressing",
    "reason": "weight 10",
    "step": 1,
    "steps": [{"set_weight": 10}, {"pause": {"duration": 600.0}}],
    "set_weight": 10,
    "actual_weight": 9.5,
    "arms": {"canary": {"requests": 10, "errors": 1, "keys": 9}},
    "mixed": 0,
    "callers": 9,
    "callers_needed": 5,
    "metrics": [READING],
}


def shown(what: Any) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ({"set_weight": 10}, "set_weight 10"),
        ({"pause": {"duration": 600.0}}, "pause 600 s"),
        ({"pause": {}}, "pause until promoted"),
        ({"analysis": {"duration": 0.0, "proof": None}}, "analysis"),
        ({"analysis": {"duration": 5.0, "proof": "non_inferior"}}, "analysis 5 s, proof non_inferior"),
    ],
)
def test_a_step_is_a_line(step, line):
    assert step_line(step) == line


def test_a_rollout_under_way_shows_where_it_is_and_what_was_measured():
    tree = shown(standing_tree(STANDING))

    assert "revision 0a1b2c3d4e5f" in tree
    assert "✓ set_weight 10" in tree
    assert "▶ pause 600 s" in tree
    assert "set 10 %, actual 9.5 %" in tree
    assert "2.10 %  2.00 %  ? … +5.00 pp" in tree
    assert "not shown to be worse, dry run" in tree


def test_requests_that_are_left_out_are_told_where_there_are_any():
    told = [shown(standing_tree({**STANDING, "mixed": mixed})) for mixed in (0, 7)]

    assert ["left out: 7 requests" in each for each in told] == [False, True]


def test_few_callers_are_told():
    told = [shown(standing_tree({**STANDING, "callers": callers})) for callers in (5, 4)]

    assert ["callers: 4 that matter; below 5" in each for each in told] == [False, True]


def test_names_are_no_markup():
    assert "[old] → new" in shown(standing_tree(STANDING))


def test_a_list_has_a_line_for_each():
    assert len(shown(standings_table([STANDING, STANDING])).splitlines()) == 3


def test_the_trail_says_who():
    entry = {"at": 0.0, "kind": "aborted", "by": "ada", "reason": "slow", "detail": {"weight": 0}}

    assert shown(history_table([entry])).splitlines()[1].split() == [
        "1970-01-01", "00:00:00Z", "aborted", "ada", "0", "%", "slow",
    ]  # fmt: skip


def test_an_experiment_warns_of_a_mismatch():
    metric = {"metric": "latency_p50", "unit": "s", "variant": 0.2, "base": 1.5, "change": [-0.5, None],
              "is_relative": True, "difference": "not shown", "note": ""}  # fmt: skip
    contrast = {"variant": "new", "sample_ratio_mismatch": True, "metrics": [metric]}
    tree = shown(
        experiment_tree(
            {
                "name": "ab",
                "revision": "r7",
                "base": "old",
                "weights": {"old": 1},
                "arms": {},
                "mixed": 3,
                "contrasts": [contrast],
            }
        )
    )

    assert "revision r7" in tree
    assert "sample ratio mismatch" in tree
    assert "left out: 3 requests" in tree
    assert "200 ms  1.50 s  -50 % … ?" in tree
