from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import forbid, permit
from wissel.core.access import Forbid, HeaderMatch, Permit, Principal, Rule, RuleBook, Window, authorize

ada = Principal("ada", frozenset({"eng"}))


def test_nothing_is_permitted_without_a_rule():
    assert authorize(RuleBook([]), ada, ["m"]) == Forbid(())


def test_a_permit_without_conditions_permits_everything():
    assert authorize(RuleBook([permit("all")]), ada, ["m", "n"]) == Permit(("m", "n"), ("all",))


def test_a_forbid_wins_over_a_permit():
    book = RuleBook([permit("all"), forbid("no-code", routes=frozenset({"code"}))])

    assert authorize(book, ada, ["m"], route="code") == Forbid(("no-code",))


def test_a_forbid_takes_out_only_the_models_it_names():
    book = RuleBook([permit("all"), forbid("no-m", models=frozenset({"m"}))])

    assert authorize(book, ada, ["m", "n"]) == Permit(("n",), ("all",))


def test_a_permit_for_a_route_does_not_permit_naming_a_model():
    book = RuleBook([permit("chat-only", routes=frozenset({"chat"}))])

    assert authorize(book, ada, ["m"], route=None) == Forbid(())


def test_a_permit_for_all_routes_permits_naming_a_model():
    book = RuleBook([permit("all", routes=frozenset({"*"}))])

    assert authorize(book, ada, ["m"], route=None) == Permit(("m",), ("all",))


def test_a_group_is_permitted_by_membership():
    book = RuleBook([permit("eng", groups=frozenset({"eng"}))])

    assert authorize(book, ada, ["m"]) == Permit(("m",), ("eng",))
    assert authorize(book, Principal("bob"), ["m"]) == Forbid(())


def test_a_path_pattern_limits_a_rule():
    book = RuleBook([permit("chat", paths=("/v1/chat/*",))])

    assert isinstance(authorize(book, ada, ["m"], path="/v1/chat/completions"), Permit)
    assert isinstance(authorize(book, ada, ["m"], path="/v1/embeddings"), Forbid)


def test_a_header_condition_needs_the_header():
    book = RuleBook([permit("beta", headers=(HeaderMatch("x-beta", "prefix", "y"),))])

    assert isinstance(authorize(book, ada, ["m"], headers={"x-beta": "yes"}), Permit)
    assert isinstance(authorize(book, ada, ["m"], headers={}), Forbid)


def test_a_shadow_rule_is_told_and_not_enforced():
    book = RuleBook([permit("all"), forbid("later", models=frozenset({"m"}), shadow=True)])

    assert authorize(book, ada, ["m"]) == Permit(("m",), ("all",), shadow_ids=("later",))


def test_a_shadow_rule_that_changes_nothing_is_not_told():
    book = RuleBook([permit("all"), permit("again", models=frozenset({"m"}), shadow=True)])

    assert authorize(book, ada, ["m"]) == Permit(("m",), ("all",))


class Fixed:
    """A zone at a constant distance from UTC."""

    def __init__(self, hours: float = 0) -> None:
        self.seconds = hours * 3600

    def offset(self, now: float) -> float:
        return self.seconds


class Broken:
    def offset(self, now: float) -> float:
        raise OverflowError


MONDAY = 4 * 86_400  # 1970-01-05
OFFICE = Window(Fixed(), days=frozenset({0, 1, 2, 3, 4}), hours=(9 * 60, 17 * 60))
NIGHT = Window(Fixed(), days=frozenset({4}), hours=(22 * 60, 6 * 60))


@pytest.mark.parametrize(
    ("window", "hour", "covered"),
    [
        (OFFICE, 8.99, False),
        (OFFICE, 9, True),
        (OFFICE, 16.99, True),
        (OFFICE, 17, False),
        (OFFICE, 5 * 24 + 12, False),
        (NIGHT, 4 * 24 + 21.99, False),
        (NIGHT, 4 * 24 + 22, True),
        (NIGHT, 5 * 24 + 5.99, True),
        (NIGHT, 5 * 24 + 6, False),
        (NIGHT, 5 * 24 + 22, False),
        (NIGHT, 4 * 24 + 5, False),
        (Window(Fixed(2), hours=(9 * 60, 17 * 60)), 7, True),
        (Window(Fixed(-2), hours=(9 * 60, 17 * 60)), 9, False),
        (Window(Fixed(), since=MONDAY + 3600.0), 0.99, False),
        (Window(Fixed(), since=MONDAY + 3600.0), 1, True),
        (Window(Fixed(), until=MONDAY + 3600.0), 1, False),
    ],
)
def test_a_window_covers_its_days_and_hours_in_its_zone(window, hour, covered):
    assert window.covers(MONDAY + hour * 3600) is covered


def test_a_rule_speaks_only_in_its_window():
    book = RuleBook([permit("all"), forbid("office", when=OFFICE)])

    assert authorize(book, ada, ["m"], now=MONDAY + 12 * 3600) == Forbid(("office",))
    assert authorize(book, ada, ["m"], now=MONDAY) == Permit(("m",), ("all",))


@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_a_rule_that_cannot_be_evaluated_forbids_every_model(effect):
    broken = Rule("broken", effect, models=frozenset({"m"}), when=Window(Broken(), hours=(0, 60)))
    book = RuleBook([permit("all"), broken])

    assert authorize(book, ada, ["m", "n"]) == Forbid(("broken",))


def test_a_shadow_rule_that_cannot_be_evaluated_is_told_and_forbids_nothing():
    broken = forbid("broken", when=Window(Broken(), hours=(0, 60)), shadow=True)

    assert authorize(RuleBook([permit("all"), broken]), ada, ["m"]) == Permit(("m",), ("all",), ("broken",))


def test_a_permit_that_cannot_be_evaluated_is_left_to_authorize():
    book = RuleBook([permit("broken", when=Window(Broken(), hours=(0, 60)))])

    assert book.might_permit(ada, "", {})
    assert authorize(book, ada, ["m"]) == Forbid(("broken",))


names = st.sampled_from(["a", "b", "c"])
some = st.frozensets(st.sampled_from(["a", "b", "c", "*"]), max_size=2)
rules = st.builds(
    Rule,
    id=st.uuids().map(str),
    effect=st.sampled_from(["permit", "forbid"]),
    principals=some,
    groups=some,
    models=some,
    routes=some,
    shadow=st.booleans(),
)
callers = st.builds(Principal, id=names, groups=st.frozensets(names))


def plainly(rules: list[Rule], caller: Principal, model: str, route: str | None) -> bool:
    """The policy's definition, one model at a time, without any index."""
    matching = [
        rule for rule in rules if not rule.shadow and rule.concerns(caller, route, "", {}) and rule.covers(model)
    ]
    effects = {rule.effect for rule in matching}
    return effects == {"permit"}


@given(st.lists(rules, max_size=8), callers, st.lists(names, unique=True), st.none() | names)
def test_the_filed_rules_say_what_the_plain_definition_says(rules, caller, models, route):
    answer = authorize(RuleBook(rules), caller, models, route=route)
    allowed = answer.models if isinstance(answer, Permit) else ()

    assert list(allowed) == [model for model in models if plainly(rules, caller, model, route)]


@given(st.lists(rules, max_size=8), callers, names, st.none() | names)
def test_who_cannot_be_permitted_never_is(rules, caller, model, route):
    book = RuleBook(rules)

    assert book.might_permit(caller, "", {}) or isinstance(authorize(book, caller, [model], route=route), Forbid)


@pytest.mark.parametrize("narrow", [{"models": frozenset({"m"})}, {"routes": frozenset({"code"})}])
def test_a_permit_of_one_model_or_route_might_permit_anyone(narrow):
    assert RuleBook([permit("some", **narrow)]).might_permit(ada, "/v1/models", {})


@pytest.mark.parametrize("narrow", [{}, {"models": frozenset({"m"})}, {"principals": frozenset({"ada"})}])
def test_a_forbid_alone_permits_nobody(narrow):
    assert not RuleBook([forbid("none", **narrow)]).might_permit(ada, "/v1/models", {})


@pytest.mark.parametrize("of", [{"principals": frozenset({"ada"})}, {"groups": frozenset({"eng"})}, {}])
def test_a_permit_of_the_caller_or_of_all_might_permit_it(of):
    assert RuleBook([permit("some", **of)]).might_permit(ada, "/v1/models", {})


def test_a_permit_that_only_tries_permits_nobody():
    assert not RuleBook([replace(permit("some"), shadow=True)]).might_permit(ada, "/v1/models", {})
