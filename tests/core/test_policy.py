from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import forbid, model, permit, request, snapshot, split
from wissel.core.access import ANONYMOUS, Permit, Principal, Window
from wissel.core.decision import Denied, Listed, Passed, Routed
from wissel.core.intent import Intent, NoScores, Scores
from wissel.core.policy import ByIntent, Chosen, Named, admit, choose, decide, list_models, pass_through
from wissel.core.request import Conversation, Head, Request
from wissel.core.snapshot import Passthrough, Route, Snapshot
from wissel.core.tier import Grading, NoWinRate, Tier, WinRate

ada = Principal("ada", frozenset({"eng"}))
code = Scores({"chat": 0.2, "code": 0.9}, threshold=0.5)
unsure = Scores({"chat": 0.2, "code": 0.4}, threshold=0.5)


def verdict(
    config: Snapshot, asked: Request, caller: Principal = ANONYMOUS, scores=code, grading: Grading | None = None
) -> Routed | Denied:
    match admit(config, asked, caller, now=0):
        case Denied() as denied:
            return denied
        case ByIntent() as left:
            return decide(config, asked, caller, choose(config, left, scores), grading, request_id="r", now=0)
        case named:
            return decide(config, asked, caller, named, grading, request_id="r", now=0)


def test_an_entrypoint_goes_where_the_intent_leads():
    routed = verdict(snapshot(), request("auto"))

    assert (routed.route, routed.model.name, routed.reason) == ("code", "large", "static")


def test_an_unsure_intent_goes_to_the_fallback():
    routed = verdict(snapshot(), request("auto"), scores=unsure)

    assert (routed.route, routed.intent.reason, routed.reason) == ("chat", "other", "static")


@pytest.mark.parametrize("reason", ["late", "failed"])
def test_a_classifier_that_gives_no_answer_costs_the_intent_only(reason):
    routed = verdict(snapshot(), request("auto"), scores=NoScores(reason))

    assert (routed.route, routed.reason) == ("chat", "error")


def test_a_named_model_needs_no_intent():
    routed = verdict(snapshot(), request("large"))

    assert (routed.route, routed.model.name, routed.reason) == ("", "large", "static")


def test_an_alias_stands_for_its_target():
    assert verdict(snapshot(aliases={"fast": "small"}), request("fast")).model.name == "small"


def test_a_split_assigns_by_the_key():
    routed = verdict(snapshot(), request("ab", headers={"x-session-id": "s"}))

    assert (routed.split.name, routed.reason, routed.key.value) == ("ab", "split", "s")


def test_an_unknown_model_is_not_found_and_the_near_name_is_told():
    denied = verdict(snapshot(), request("lrage"))

    assert (denied.status, denied.code, denied.param) == (404, "model_not_found", "model")
    assert 'did you mean "large"?' in denied.message


def test_with_access_rules_an_unknown_model_betrays_no_names():
    denied = verdict(snapshot(rules=(permit(),)), request("lrage"))

    assert "large" not in denied.message


def test_a_forbidden_model_is_denied_with_the_rule():
    denied = verdict(snapshot(rules=(permit(), forbid("no-large", models=frozenset({"large"})))), request("large"), ada)

    assert (denied.status, denied.rule_ids) == (403, ("no-large",))
    assert '"no-large"' in denied.message


def test_a_forbidden_route_is_denied_after_classification():
    config = snapshot(rules=(permit(), forbid("no-code", routes=frozenset({"code"}))))
    denied = verdict(config, request("auto"), ada)

    assert (denied.status, denied.rule_ids, denied.route) == (403, ("no-code",), "code")


def test_who_may_nothing_is_denied_before_classification():
    config = snapshot(rules=(permit("others", groups=frozenset({"sales"})),))

    assert admit(config, request("auto"), ada, now=0).status == 403


def test_an_arm_that_the_caller_may_not_use_is_never_assigned():
    config = snapshot(rules=(permit(), forbid("no-large", models=frozenset({"large"}))))
    routed = verdict(config, request("ab", headers={"x-session-id": "s"}), ada)

    assert (routed.model.name, routed.reason) == ("small", "default")


def test_an_image_never_reaches_a_text_model():
    config = snapshot(splits=(split("see", small=99, pixel=1),))
    asked = request("see", headers={"x-session-id": "s"}, needs=frozenset({"text", "image"}))
    routed = verdict(config, asked)

    assert (routed.model.name, routed.unable[0].model) == ("pixel", "small")


def test_a_request_that_no_model_can_serve_says_why():
    denied = verdict(snapshot(), request("small", needs=frozenset({"text", "image"})))

    assert (denied.status, denied.code) == (400, "no_able_model")
    assert '"small" does not accept image' in denied.message


def test_a_part_that_nobody_knows_is_named():
    denied = verdict(snapshot(), request("pixel", needs=frozenset({"text", 'parts of the type "hologram"'})))

    assert '"pixel" does not accept parts of the type "hologram"' in denied.message


@pytest.mark.parametrize(("embeds", "is_able"), [(None, True), ({"text"}, False), ({"text", "image"}, True)])
def test_what_vectors_are_made_of_is_its_servers_affair_unless_the_file_says_it(embeds, is_able):
    one = model("e", apis=frozenset({"embeddings"}), embeds=None if embeds is None else frozenset(embeds))
    asked = request("e", api="embeddings", answers=0, needs=frozenset({"text", "image"}))

    assert isinstance(verdict(snapshot(models=(one,), splits=(), routes=(Route("r", "e"),)), asked), Routed) is is_able


def test_an_api_that_the_model_does_not_serve_is_refused():
    denied = verdict(snapshot(), replace(request("small"), api="embeddings"))

    assert 'does not serve the api "embeddings"' in denied.message


def test_a_prompt_that_cannot_fit_is_refused():
    config = snapshot(models=(model("small", context=100), model("large")))
    denied = verdict(config, request("small", context_tokens=90, max_output_tokens=20))

    assert "context of 100 tokens" in denied.message


def test_models_are_listed_as_the_caller_may_use_them():
    config = snapshot(
        rules=(permit("eng-small", groups=frozenset({"eng"}), models=frozenset({"small"})),), aliases={"fast": "small"}
    )
    listed = list_models(config, Head("models", "GET", "/v1/models", {}), ada, now=0)

    assert listed == Listed(("ab", "auto", "fast", "small"), ada, "r1")


def test_without_access_every_name_is_listed():
    listed = list_models(snapshot(), Head("models", "GET", "/v1/models", {}), ANONYMOUS, now=0)

    assert listed.names == ("ab", "auto", "large", "pixel", "small")


def test_a_call_that_only_counts_is_dealt_like_any_other_and_is_evidence_for_nobody():
    headers = {"x-session-id": "s-1"}
    dealt, counted = (
        verdict(snapshot(), request("ab", headers=headers, only_counts=only_counts)) for only_counts in (False, True)
    )

    assert (counted.model, counted.bucket) == (dealt.model, dealt.bucket)
    assert (dealt.split is None, counted.split) == (False, None)


files = (Passthrough("/v1/files", "openai"),)


def test_a_passthrough_goes_to_its_cluster():
    passed = pass_through(snapshot(passthrough=files), Head("other", "GET", "/v1/files/f-1", {}), ANONYMOUS, now=0)

    assert passed == Passed(files[0], ANONYMOUS, "r1")


@pytest.mark.parametrize("path", ["/v1/filesystem", "/v1", "/"])
def test_a_path_beside_a_passthrough_is_not_found(path):
    assert pass_through(snapshot(passthrough=files), Head("other", "GET", path, {}), ANONYMOUS, now=0).status == 404


def test_a_passthrough_meets_the_same_rules():
    config = snapshot(passthrough=files, rules=(permit("chat", paths=("/v1/chat/*",)),))

    assert pass_through(config, Head("other", "GET", "/v1/files", {}), ada, now=0).status == 403


names = st.sampled_from(["auto", "small", "large", "pixel", "ab", "nope"])
scores = st.one_of(
    st.sampled_from([NoScores("late"), NoScores("failed"), NoScores("empty")]),
    st.builds(
        Scores, st.fixed_dictionaries({"chat": st.floats(0, 1), "code": st.floats(0, 1)}), threshold=st.floats(0, 1)
    ),
)
effects = st.lists(
    st.tuples(st.sampled_from(["permit", "forbid"]), st.sampled_from(["small", "large", "pixel", "*"])), max_size=4
)


@given(names, scores, effects)
def test_what_is_forbidden_is_never_served(name, scores, effects):
    rules = tuple(
        (permit if effect == "permit" else forbid)(f"{n}", models=frozenset({m}))
        for n, (effect, m) in enumerate(effects)
    )
    answer = verdict(snapshot(rules=rules), request(name, headers={"x-session-id": "s"}), ada, scores)
    permitted = {m for effect, m in effects if effect == "permit"}
    forbidden = {m for effect, m in effects if effect == "forbid"}

    assert isinstance(answer, Denied) or (
        not {answer.model.name, "*"} & forbidden and {answer.model.name, "*"} & permitted
    )


@given(scores, st.permutations([Route("chat", "small"), Route("code", "large"), Route("art", "pixel")]))
def test_the_order_of_routes_never_changes_the_outcome(scores, routes):
    in_order = verdict(snapshot(routes=tuple(routes), fallback="chat"), request("auto"), scores=scores)

    assert in_order.route == verdict(snapshot(fallback="chat"), request("auto"), scores=scores).route


def test_by_intent_is_said_before_any_scores_exist():
    assert admit(snapshot(), request("auto"), ANONYMOUS, now=0) == ByIntent()


@pytest.mark.parametrize(("asked", "status"), [("small", 200), ("large", 403), ("ab", 403), ("big", 403), ("x", 200)])
def test_a_model_in_the_query_of_a_passthrough_meets_the_rules(asked, status):
    config = snapshot(
        passthrough=(Passthrough("/v1/files", "c"),),
        aliases={"big": "large"},
        rules=(permit(), forbid("no-large", models=frozenset({"large"}))),
    )
    head = Head("other", "GET", "/v1/files", {}, models=(asked,))

    assert getattr(pass_through(config, head, ada, now=0), "status", 200) == status


ALL, SOME = (permit(),), (permit(), forbid("no-large", models=frozenset({"large"})))


@pytest.mark.parametrize(
    ("rules", "models", "carries", "reads", "status"),
    [
        (SOME, ("small",), True, True, 200),
        (SOME, ("small", "unheard-of"), True, True, 403),
        (SOME, (), True, True, 403),
        (SOME, (), False, True, 200),
        (SOME, ("unheard-of",), True, False, 200),
        (ALL, ("unheard-of",), True, True, 200),
        ((), ("unheard-of",), True, True, 403),
        (None, ("unheard-of",), True, True, 200),
    ],
)
def test_what_names_no_model_that_is_known_passes_for_those_who_may_use_all(rules, models, carries, reads, status):
    config = snapshot(passthrough=(Passthrough("/v1/files", "c", reads_models=reads),), rules=rules)
    head = Head("other", "POST", "/v1/files", {}, models=models, carries=carries)

    assert getattr(pass_through(config, head, ada, now=0), "status", 200) == status


thrifty = Tier("thrifty", strong="large", weak="ab", policy=0.5)
hard = Grading(WinRate(0.8, "length"), 0.5)
easy = Grading(WinRate(0.2, "length"), 0.5)


def tiered(grading: Grading | None, asked: Request | None = None, **fields) -> Routed | Denied:
    config = snapshot(tiers={"thrifty": thrifty}, routes=(Route("chat", "thrifty"),), **fields)
    return verdict(config, asked or request("thrifty", headers={"x-session-id": "s"}), ada, grading=grading)


def test_a_hard_request_goes_to_the_strong_end_of_a_tier():
    routed = tiered(hard)

    assert (routed.model.name, routed.target, routed.tier.end, routed.split) == ("large", "thrifty", "strong", None)


def test_an_easy_request_goes_to_the_weak_end_whose_split_assigns_it():
    routed = tiered(easy)

    assert (routed.tier.end, routed.split.name, routed.reason, routed.key.value) == ("weak", "ab", "split", "s")


def test_a_route_may_lead_to_a_tier():
    config = snapshot(tiers={"thrifty": thrifty}, routes=(Route("chat", "thrifty"),))

    assert choose(config, ByIntent(), NoScores("empty")) == Chosen("thrifty", Intent("chat", "empty"))
    assert verdict(config, request("auto"), scores=NoScores("empty"), grading=hard).tier.end == "strong"


def test_what_was_graded_changes_nothing_where_the_target_is_no_tier():
    config = snapshot(tiers={"thrifty": thrifty})

    assert verdict(config, request("large"), ada, grading=easy) == verdict(config, request("large"), ada)


def test_access_comes_before_the_tier():
    routed = tiered(hard, rules=(permit(), forbid("no-large", models=frozenset({"large"}))))

    assert (routed.tier.end, routed.tier.reason, routed.model.name) == ("weak", "only_end", "small")


def test_a_grader_that_is_late_costs_the_choice_and_never_the_answer():
    routed = tiered(Grading(NoWinRate("late"), 0.5))

    assert (routed.model.name, routed.tier.reason, routed.reason) == ("large", "late", "error")


def test_a_tier_that_nobody_graded_takes_its_fallback():
    assert tiered(None).tier.reason == "failed"


def test_a_tier_of_which_no_end_can_serve_is_refused():
    denied = tiered(hard, request("thrifty", needs=frozenset({"text", "image"})))

    assert (denied.status, denied.code) == (400, "no_able_model")


def test_a_tier_is_listed_among_the_models():
    assert "thrifty" in snapshot(tiers={"thrifty": thrifty}).names


COUNTS = {"api": "messages", "only_counts": True, "input_tokens": 7}
SPEAKERS = (model("chatter"), model("teller", apis=frozenset({"messages"})))


@pytest.mark.parametrize(
    ("named", "counted"), [("chatter", ("chatter", 7)), ("teller", ("teller", None)), ("ab", ("teller", None))]
)
def test_tokens_are_estimated_only_where_no_server_that_is_meant_counts_them(named: str, counted):
    config = snapshot(models=SPEAKERS, splits=(split(chatter=99, teller=1),), routes=(Route("chat", "chatter"),))
    routed = verdict(config, request(named, **COUNTS))

    assert (routed.model.name, routed.counted) == counted


def test_who_may_not_use_a_model_is_told_no_estimate_either():
    rules = (permit(), forbid("no-chatter", models=frozenset({"chatter"})))
    config = snapshot(
        models=SPEAKERS, splits=(split(chatter=1, teller=1),), routes=(Route("chat", "teller"),), rules=rules
    )
    denied = verdict(config, request("chatter", **COUNTS), ada)

    assert (denied.status, denied.rule_ids) == (403, ("no-chatter",))


class Greenwich:
    def offset(self, now: float) -> float:
        return 0.0


def test_the_list_of_models_is_of_its_own_path_and_of_now():
    """So a rule for it alone, or for some time of it, holds."""
    later = Window(Greenwich(), since=1000.0)
    rules = (permit("list", paths=("/v1/models",), when=later),)
    known = snapshot(rules=rules)
    head = Head("models", "GET", "/v1/models", {})

    assert [list_models(known, head, ada, now=now).names for now in (999.0, 1000.0)] == [(), known.names]


def test_who_asked_is_told_where_no_model_can_serve():
    denied = decide(
        snapshot(models=(model("a"),)),
        request("a", needs=frozenset({"text", "video"})),
        ada,
        Named("a", Permit(("a",), ())),
        request_id="r",
        now=0.0,
    )

    assert isinstance(denied, Denied)
    assert denied.principal is ada


def test_an_answer_that_is_kept_of_a_conversation_without_a_name_belongs_to_none():
    kept = decide(
        snapshot(models=(model("a"),)),
        request("a", keeps=True, conversation=Conversation()),
        ada,
        Named("a", Permit(("a",), ())),
        request_id="r",
        now=0.0,
    )

    assert isinstance(kept, Routed)
    assert kept.thread == ""
