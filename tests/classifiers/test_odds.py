import math

import pytest

from wissel.classifiers.odds import TokenOdds, spread, with_leader

ANSWERS = {name: f'{{"route": "{name}"}}' for name in ("code", "code_review", "travel", "other")}


def step(token, probability=1.0, **others):
    return TokenOdds(token, math.log(probability), {name: math.log(odds) for name, odds in others.items()})


def test_legal_alternatives_keep_their_share_and_illegal_ones_have_none():
    steps = [step('{"route": "'), step("travel", 0.6, travel=0.6, other=0.2, poetry=0.2), step('"}')]

    assert spread(ANSWERS, steps) == pytest.approx({"code": 0, "code_review": 0, "travel": 0.75, "other": 0.25})


def test_what_an_alternative_could_have_become_is_shared_equally():
    steps = [step('{"route": "'), step("other", 0.5, code=0.5)]

    assert spread(ANSWERS, steps) == pytest.approx({"code": 0.25, "code_review": 0.25, "travel": 0, "other": 0.5})


def test_a_later_branch_splits_what_came_to_it():
    review = TokenOdds("_review", math.log(0.25), {'"}': math.log(0.75)})

    shares = spread(ANSWERS, [step('{"route": "'), step("code", 0.8, travel=0.2), review])

    assert shares == pytest.approx({"code": 0.6, "code_review": 0.2, "travel": 0.2, "other": 0})


def test_spacing_and_quotes_do_not_matter():
    steps = [step("{'route':'"), step("travel", 0.5, other=0.5), step("'}")]

    assert spread(ANSWERS, steps)["travel"] == pytest.approx(0.5)


def test_a_token_of_white_space_decides_nothing():
    space = TokenOdds(" ", math.log(0.5), {"\n": math.log(0.5)})

    assert spread(ANSWERS, [step('{"route":'), space, step('"'), step("other")])["other"] == 1.0


@pytest.mark.parametrize("steps", [[], [step("I think")], [step('{"route": "'), step("poetry")], [step('{"route": "')]])
def test_steps_that_write_no_answer_say_nothing(steps):
    assert spread(ANSWERS, steps) is None


def test_the_answer_leads_even_where_another_one_is_likelier():
    assert with_leader({"a": 0.3, "b": 0.4, "c": 0.1}, "a") == {"a": 0.3, "b": math.nextafter(0.3, 0), "c": 0.1}
