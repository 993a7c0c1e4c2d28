"""Who follows whom, and who never may."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import forbid, model, permit, request, snapshot
from wissel.core.access import ANONYMOUS, Permit, Principal, authorize
from wissel.core.decision import Routed
from wissel.core.plan import NOBODY, Plan, Resting, Unable, inability, plan_of, shows_callers_credential
from wissel.core.policy import Named, admit, decide
from wissel.core.request import Request
from wissel.core.snapshot import Credential, Failover, Model, Snapshot, Terms

ada = Principal("ada", frozenset({"eng"}))
SECRET, FORWARD = Credential("secret", "s"), Credential("forward")


def names(plan: Plan) -> list[str]:
    return [each.name for each in plan.models]


def planned(
    *models: Model,
    route: str | None = None,
    caller: Principal = ada,
    resting: Resting = NOBODY,
    asked: Request | None = None,
    **fields: Any,
) -> Plan:
    known = snapshot(models=models, **fields)
    asked = asked or request("a")
    return plan_of(known, asked, caller, models[0], route=route, now=0.0, resting=resting)


def test_a_model_without_fallbacks_is_a_plan_of_its_own():
    a = model("a")

    assert planned(a) == Plan((a,))


def test_fallbacks_follow_in_the_order_of_the_file():
    plan = planned(model("a", fallbacks=("c", "b")), model("b"), model("c"))

    assert names(plan) == ["a", "c", "b"]


def test_the_fallbacks_of_fallbacks_do_not_follow():
    plan = planned(model("a", fallbacks=("b",)), model("b", fallbacks=("c",)), model("c"))

    assert names(plan) == ["a", "b"]


def test_no_more_are_asked_than_the_file_allows():
    plan = planned(model("a", fallbacks=("b", "c")), model("b"), model("c"), terms=Terms(failover=Failover(attempts=2)))

    assert (names(plan), plan.left_out) == (["a", "b"], (Unable("c", "would be attempt 3 of at most 2"),))


@pytest.mark.parametrize(
    ("fallback", "asked", "why"),
    [
        (model("b", apis=frozenset({"messages"})), request("a"), 'does not serve the api "chat"'),
        (model("b"), request("a", needs=frozenset({"text", "image"})), "does not accept image"),
        (
            model("b", context=10),
            request("a", context_tokens=11),
            "has a context of 10 tokens, and this needs about 11",
        ),
    ],
)
def test_one_that_cannot_serve_the_request_is_left_out(fallback: Model, asked: Request, why: str):
    everything = frozenset({"text", "image"})
    plan = planned(model("a", fallbacks=("b",), accepts=everything), fallback, asked=asked)

    assert (names(plan), plan.left_out) == (["a"], (Unable("b", why),))


FAILING = "is cooling down, for it kept failing"
BUSY = "is cooling down, as its server asked"


def test_one_that_cools_down_is_left_out():
    plan = planned(model("a", fallbacks=("b", "c")), model("b"), model("c"), resting={"b": "failing"})

    assert (names(plan), plan.left_out) == (["a", "c"], (Unable("b", FAILING),))


def test_where_the_chosen_one_cools_down_the_first_that_follows_is_asked_in_its_place():
    plan = planned(
        model("a", fallbacks=("b", "c", "d")), model("b"), model("c"), model("d"),
        resting={"a": "busy", "b": "failing"}, terms=Terms(failover=Failover(attempts=2)),
    )  # fmt: skip

    assert (names(plan), plan.left_out) == (["c", "d"], (Unable("a", BUSY), Unable("b", FAILING)))


@pytest.mark.parametrize(
    ("fallbacks", "attempts", "left_out"), [((), 3, ()), (("b",), 3, (Unable("b", FAILING),)), (("b",), 1, ...)]
)
def test_where_nobody_else_may_serve_one_that_cools_down_is_asked(
    fallbacks: tuple[str, ...], attempts: int, left_out: tuple[Unable, ...]
):
    terms = Terms(failover=Failover(attempts=attempts))
    plan = planned(model("a", fallbacks=fallbacks), model("b"), resting={"a": "failing", "b": "failing"}, terms=terms)

    assert names(plan) == ["a"]
    assert left_out is ... or plan.left_out == left_out


def test_where_there_is_no_failover_a_model_is_asked_while_it_cools_down():
    terms = Terms(failover=Failover(attempts=1))
    plan = planned(model("a", fallbacks=("b",)), model("b"), resting={"a": "failing"}, terms=terms)

    assert names(plan) == ["a"]


def test_a_decision_says_who_was_chosen_where_that_one_rests():
    known = snapshot(models=(model("a", fallbacks=("b",)), model("b")))
    aim = Named("a", Permit(("a",), ()))
    rested = decide(known, request("a"), ada, aim, request_id="r", now=0.0, resting={"a": "failing"})
    asked = decide(known, request("a"), ada, aim, request_id="r", now=0.0, resting={"b": "failing"})

    assert isinstance(rested, Routed)
    assert isinstance(asked, Routed)
    assert (rested.model.name, rested.variant, rested.chosen, rested.rests_as_failing) == ("b", "a", "a", True)
    assert (asked.model.name, asked.rested, asked.chosen, asked.rests_as_failing) == ("a", "", "a", False)


def test_one_that_the_caller_may_not_use_is_left_out():
    rules = (permit(), forbid("no-b", models=frozenset({"b"})))
    plan = planned(model("a", fallbacks=("b", "c")), model("b"), model("c"), rules=rules)

    assert (names(plan), plan.left_out) == (["a", "c"], (Unable("b", "is not permitted to this caller"),))


def test_one_that_is_forbidden_on_this_route_alone_is_left_out_there():
    rules = (permit(), forbid("not-for-code", models=frozenset({"b"}), routes=frozenset({"code"})))
    models = model("a", fallbacks=("b",)), model("b")

    assert [names(planned(*models, rules=rules, route=route)) for route in ("code", "chat")] == [["a"], ["a", "b"]]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(SECRET, FORWARD, ["a"]), (FORWARD, FORWARD, ["a", "b"]), (FORWARD, SECRET, ["a", "b"]), (None, FORWARD, ["a"])],
)
def test_a_callers_credential_that_is_gone_is_forwarded_to_nobody(
    first: Credential | None, second: Credential, expected: list[str]
):
    plan = planned(model("a", fallbacks=("b",), credential=first), model("b", credential=second))

    assert names(plan) == expected


def test_a_stranger_whose_first_model_has_no_credential_still_has_its_own():
    plan = planned(model("a", fallbacks=("b",)), model("b", credential=FORWARD), caller=ANONYMOUS)

    assert names(plan) == ["a", "b"]


def test_a_callers_own_order_takes_the_place_of_the_files_where_it_may():
    models = model("a", fallbacks=("b",)), model("b"), model("c")
    asked = request("a", fallbacks=("a", "c", "c"))

    assert [
        names(planned(*models, asked=asked, terms=Terms(failover=Failover(accept_models=accepts))))
        for accepts in (False, True)
    ] == [["a", "b"], ["a", "c"]]


def test_a_caller_may_list_aliases_of_models_and_nothing_else():
    asked = request("a", fallbacks=("fast", "ab", "nobody"))
    plan = planned(
        model("a"), model("b"), asked=asked, terms=Terms(failover=Failover(accept_models=True)), aliases={"fast": "b"}
    )

    assert (names(plan), plan.left_out) == (["a", "b"], (Unable("ab", "is no model"), Unable("nobody", "is no model")))


def test_a_callers_list_leads_nowhere_that_a_name_does_not():
    rules = (permit("code", routes=frozenset({"code"})), permit("by-name", models=frozenset({"a"})))
    asked = request("auto", fallbacks=("b",))
    models = model("a"), model("b")

    plan = planned(*models, rules=rules, asked=asked, route="code", terms=Terms(failover=Failover(accept_models=True)))

    assert plan.left_out == (Unable("b", "is not permitted to this caller"),)


def test_what_is_decided_has_its_plan():
    known = snapshot(models=(model("a", fallbacks=("b",)), model("b")))
    asked = request("a")
    aim = admit(known, asked, ada, now=0.0)
    assert isinstance(aim, Named)

    decision = decide(known, asked, ada, aim, request_id="r", now=0.0)

    assert isinstance(decision, Routed)
    assert [each.name for each in decision.candidates] == ["a", "b"]


GROUPS = [frozenset(found) for found in ((), ("eng",), ("ops",), ("eng", "ops"))]
LISTS = [(), ("b",), ("c", "b"), ("d", "c", "b"), ("b", "a", "d")]
RULES = [
    (permit(),),
    (permit("eng", groups=frozenset({"eng"})), permit("ops-d", groups=frozenset({"ops"}), models=frozenset({"d"}))),
    (permit(), forbid("no-b", models=frozenset({"b"}), groups=frozenset({"ops"}))),
    (permit("code", routes=frozenset({"code"})), permit("named", models=frozenset({"a", "c"}))),
    (permit("a", models=frozenset({"a"})), forbid("no-code", routes=frozenset({"code"}), models=frozenset({"c"}))),
]


def test_no_plan_holds_a_model_that_the_caller_may_not_use_or_that_cannot_serve():
    """Every group of callers against every list, rule, route, source of the order and kind of request."""
    known = [model("a"), model("b", accepts=frozenset({"text", "image"})), model("c", context=100), model("d")]
    combinations = 0
    wrong: list[object] = []
    for groups, listed, rules, route, accepts, size in product(
        GROUPS, LISTS, RULES, (None, "code", "chat"), (False, True), (10, 1000)
    ):
        combinations += 1
        models = (replace(known[0], fallbacks=() if accepts else listed), *known[1:])
        caller = Principal("someone", groups)
        asked = request("a", fallbacks=listed if accepts else (), context_tokens=size)
        world = snapshot(models=models, rules=rules, terms=Terms(failover=Failover(accept_models=accepts)))
        plan = plan_of(world, asked, caller, models[0], route=route, now=0.0)
        for follower in plan.models[1:]:
            may = _may(world, caller, follower.name, route) and (
                not accepts or _may(world, caller, follower.name, None)
            )
            if not may or follower.name not in listed or inability(follower, asked) is not None:
                wrong.append((groups, listed, rules, route, accepts, follower.name))

    assert (combinations >= 500, wrong) == (True, [])


def _may(world: Snapshot, caller: Principal, name: str, route: str | None) -> bool:
    assert world.rules is not None
    answer = authorize(world.rules, caller, (name,), route=route, path="/v1/chat/completions", now=0.0)
    return isinstance(answer, Permit)


@given(
    listed=st.lists(st.sampled_from("abcdefgh"), max_size=12),
    attempts=st.integers(1, 6),
    resting=st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["failing", "busy"])),
)
def test_a_plan_is_bounded_names_nobody_twice_and_accounts_for_everybody(
    listed: list[str], attempts: int, resting: Resting
):
    models = tuple(model(name, fallbacks=tuple(listed) if name == "a" else ()) for name in "abcdef")
    plan = planned(*models, terms=Terms(failover=Failover(attempts=attempts)), resting=resting)
    told = [*names(plan), *(each.model for each in plan.left_out)]

    assert (len(plan.models) <= attempts, sorted(told)) == (True, sorted({"a", *listed}))


def test_what_envoy_signs_shows_nobodys_own_credential():
    assert not shows_callers_credential(model("m", is_signed=True), ANONYMOUS)
    assert shows_callers_credential(model("m"), ANONYMOUS)
