"""What speaks of an answer goes where that was made, and no further than its caller may."""

from dataclasses import replace

import pytest

from factories import forbid, model, permit, request, snapshot, split
from wissel.core.access import Permit, Principal
from wissel.core.affinity import MadeId, Origin, owner_of
from wissel.core.conversation import conversation_key
from wissel.core.decision import Denied, Kept, ListedAnswer, Routed
from wissel.core.origin import go_on, list_answers, revisit
from wissel.core.policy import ByIntent, Named
from wissel.core.request import Head, Request

ada, eve = Principal("ada"), Principal("eve")
MADE = MadeId("responses", "resp_Ab1")
ORIGIN = Origin("small", "small-cluster", "", owner_of(ada), "thread-1", 0.0, 1e12)
PATH = "/v1/responses"
ABOUT = Head("kept", "GET", f"{PATH}/resp_ab1", {}, "responses", about=MADE, call_path=PATH)


def asked_about(origin: Origin | None = ORIGIN, caller: Principal = ada, **fields):
    return revisit(snapshot(**fields), ABOUT, caller, origin, now=0.0)


def going_on(name: str = "large", **fields) -> Request:
    return request(name, previous=MADE, goes_on_by="previous_response_id", **fields)


def gone_on(
    asked: Request, origin: Origin | None = ORIGIN, caller: Principal = ada, **fields
) -> Routed | Denied | Request:
    here = snapshot(**fields)
    models = () if asked.model in here.entrypoints else tuple(arm.model for arm in here.arms(asked.model))
    admitted = Named(asked.model, Permit(models, ())) if models else ByIntent()
    return go_on(here, asked, caller, admitted, origin, request_id="wr-1", now=0.0)


# What is asked about it.


def test_it_is_asked_for_where_it_was_made():
    assert asked_about() == Kept(model("small"), ada, "r1")


def test_another_callers_answer_is_told_as_one_that_nobody_made():
    assert replace(asked_about(caller=eve), principal=ada) == asked_about(None)


@pytest.mark.parametrize("fields", [{"model": "gone"}, {"cluster": "elsewhere"}])
def test_a_model_that_is_elsewhere_now_has_not_made_it(fields):
    denied = asked_about(replace(ORIGIN, **fields))

    assert (denied.status, denied.code) == (404, "answer_not_found")


def test_who_may_no_longer_use_the_model_is_refused():
    denied = asked_about(rules=(permit(), forbid("not-now", models=frozenset({"small"}))))

    assert (denied.status, denied.rule_ids) == (403, ("not-now",))


def test_a_rule_about_the_call_speaks_of_its_answers():
    open_call = permit(paths=(PATH,))
    closed_call = forbid("no-call", paths=(PATH,))

    assert isinstance(asked_about(rules=(open_call,)), Kept)
    assert asked_about(rules=(permit(), closed_call)).rule_ids == ("no-call",)


def test_a_rule_about_answers_alone_speaks_of_them():
    assert asked_about(rules=(permit(), forbid("no-polls", paths=(f"{PATH}/*",)))).rule_ids == ("no-polls",)
    assert asked_about(rules=(permit(paths=("/v1/chat/*",)),)).status == 403


def test_a_rule_about_the_route_that_made_it_holds():
    rules = (permit(routes=frozenset({"chat"})),)

    assert isinstance(asked_about(replace(ORIGIN, route="chat"), rules=rules), Kept)
    assert asked_about(replace(ORIGIN, route="gone"), rules=rules).status == 403


# What goes on from it.


@pytest.mark.parametrize("name", ["small", "large", "ab", "auto"])
def test_a_call_goes_on_where_its_previous_answer_was_made(name):
    decision = gone_on(going_on(name))

    assert (decision.model.name, decision.lead) == ("small", "made")


@pytest.mark.parametrize("weights", [{"small": 100, "large": 0}, {"large": 100, "small": 0}])
def test_an_arm_without_weight_goes_on_with_what_it_began(weights):
    decision = gone_on(going_on("ab"), splits=(split("ab", **weights),))

    assert (decision.model.name, decision.reason) == ("small", "split" if weights["small"] else "targeting_match")


def test_it_is_evidence_where_its_key_meets_the_arm_anyway():
    threads = [f"thread-{at}" for at in range(50)]
    decisions = [gone_on(going_on("ab"), replace(ORIGIN, thread=thread)) for thread in threads]

    assert {(each.reason, each.split is None, each.key is None) for each in decisions} == {
        ("split", False, False),
        ("targeting_match", True, True),
    }


def test_it_stays_on_the_route_of_the_conversation():
    decision = gone_on(going_on("auto"), replace(ORIGIN, route="chat"))

    assert (decision.route, decision.target) == ("chat", "small")


def test_it_belongs_to_the_same_conversation():
    decision = gone_on(going_on("small", keeps=True))

    assert decision.thread == "thread-1"


def test_going_on_permits_nothing():
    denied = gone_on(going_on("large"), rules=(permit(), forbid("not-now", models=frozenset({"small"}))))

    assert (denied.status, denied.rule_ids) == (403, ("not-now",))
    assert '"small"' in denied.message


def test_going_on_enables_nothing():
    denied = gone_on(going_on("large", needs=frozenset({"text", "image"})))

    assert (denied.status, denied.code) == (400, "no_able_model")


def test_nobody_goes_on_from_another_callers_answer():
    denied = gone_on(going_on(), caller=eve)

    assert (denied.status, denied.code, denied.param) == (404, "answer_not_found", "previous_response_id")


@pytest.mark.parametrize(
    ("origin", "lead", "thread"),
    [(None, "unknown", ""), (replace(ORIGIN, cluster="elsewhere"), "gone", "thread-1")],
)
def test_an_id_that_leads_nowhere_is_left_to_the_route(origin, lead, thread):
    asked = gone_on(going_on(), origin)

    assert (asked.lead, asked.thread) == (lead, thread)


def test_the_conversation_of_an_id_that_nobody_knows_is_still_its_own():
    asked = gone_on(going_on(labels={"previous_response_id": MADE.id}), None)

    assert conversation_key(asked, snapshot().conversation) == MADE.id


# Lists.

LIST = Head("kept", "GET", "/v1/chat/completions", {}, "chat", call_path="/v1/chat/completions")
CHAT = {
    MadeId("chat", name): replace(ORIGIN, model=maker, cluster=f"{maker}-cluster", at=at)
    for name, maker, at in [("c-2", "large", 2.0), ("c-1", "small", 1.0), ("c-3", "gone", 3.0)]
}


def listed(made=CHAT, *models: str, caller: Principal = ada, **fields) -> list[str]:
    found = list_answers(snapshot(**fields), replace(LIST, models=models), caller, made, now=0.0)
    return [each.id for each in found.answers]


def test_a_list_has_what_could_be_asked_for_oldest_first():
    found = list_answers(snapshot(), LIST, ada, CHAT, now=0.0)

    assert found.answers == (ListedAnswer("c-1", "small", 1), ListedAnswer("c-2", "large", 2))


@pytest.mark.parametrize(("name", "ids"), [("large", ["c-2"]), ("ab", ["c-1", "c-2"]), ("nobody", [])])
def test_a_list_is_of_the_models_that_are_named(name, ids):
    assert listed(CHAT, name) == ids


def test_a_list_leaves_out_what_its_caller_may_no_longer_use():
    assert listed(rules=(permit(), forbid("not-now", models=frozenset({"small"})))) == ["c-2"]


def test_a_list_has_nothing_of_another_caller():
    assert listed(caller=eve) == []
