from hypothesis import given
from hypothesis import strategies as st

from factories import forbid, permit, request, snapshot
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.intent import NoScores, Pinned, Scores
from wissel.core.pin import Pin, PinPolicy, Pins, pin_of
from wissel.core.policy import admit, choose, decide

POLICY = PinPolicy("x-session-id", 60.0)
ROUTES = frozenset({"chat", "code"})
ada, bob = Principal("ada"), Principal("bob")


def pin(session: str = "s", caller: Principal = ada) -> Pin:
    found = pin_of(POLICY, request(headers={"x-session-id": session}), caller)
    assert found is not None
    return found


def verdict(scores, **config):
    asked = request("auto", headers={"x-session-id": "s"})
    config = snapshot(pin=POLICY, **config)
    left = admit(config, asked, ada, now=0)
    return decide(config, asked, ada, choose(config, left, scores), request_id="r", now=0)


def test_a_session_is_known_by_its_header_and_its_caller():
    assert pin("s", ada) == pin("s", ada)
    assert len({pin("s", ada), pin("s", bob), pin("t", ada), pin("s", ANONYMOUS)}) == 4


def test_without_a_policy_or_the_header_nothing_is_pinned():
    assert pin_of(None, request(headers={"x-session-id": "s"}), ada) is None
    assert pin_of(POLICY, request(), ada) is None
    assert pin_of(POLICY, request(headers={"x-session-id": ""}), ada) is None


def test_a_route_is_kept_until_the_session_was_silent_for_long_enough():
    pins = Pins()
    pins.keep(pin(), "code", ROUTES, 0.0)
    pins.keep(pin(), "code", ROUTES, 50.0)

    assert [pins.route(pin(), ROUTES, now) for now in (0.0, 109.9, 110.0)] == ["code", "code", None]


def test_looking_does_not_keep():
    pins = Pins()
    pins.keep(pin(), "code", ROUTES, 0.0)
    pins.route(pin(), ROUTES, 59.0)

    assert pins.route(pin(), ROUTES, 61.0) is None


def test_a_route_that_the_configuration_lost_is_found_anew():
    pins = Pins()
    pins.keep(pin(), "code", ROUTES, 0.0)

    assert pins.route(pin(), {"chat"}, 1.0) is None
    pins.keep(pin(), "chat", {"chat"}, 1.0)
    assert pins.route(pin(), ROUTES, 2.0) == "chat"


@given(st.lists(st.tuples(st.floats(0, 59), st.sampled_from(["chat", "code"])), min_size=1))
def test_a_session_that_is_never_silent_for_long_never_changes_its_route(served):
    pins, now = Pins(), 0.0
    for pause, route in served:
        now += pause
        pins.keep(pin(), route, ROUTES, now)

        assert pins.route(pin(), ROUTES, now) == served[0][1]


@given(st.lists(st.integers(0, 9)))
def test_the_sessions_heard_of_last_are_those_that_are_kept(sessions):
    pins = Pins(size=3)
    for now, session in enumerate(sessions):
        pins.keep(pin(str(session)), "code", ROUTES, now)

    latest = list(dict.fromkeys(reversed(sessions)))[:3]
    kept = {session for session in range(10) if pins.route(pin(str(session)), ROUTES, len(sessions))}
    assert kept == set(latest)


def test_a_clear_intent_pins_and_an_unclear_one_does_not():
    clear, unsure = Scores({"chat": 0.2, "code": 0.9}, 0.5), Scores({"chat": 0.2, "code": 0.4}, 0.5)
    given = [clear, Pinned("code", "x-session-id"), unsure, NoScores("late"), NoScores("failed"), NoScores("empty")]

    assert [verdict(each).pin for each in given] == [pin(), pin(), None, None, None, None]


def test_a_pinned_route_is_taken_without_scores_and_says_so():
    routed = verdict(Pinned("code", "x-session-id"))

    assert (routed.route, routed.intent.reason, routed.intent.detail) == ("code", "pinned", "by x-session-id")


def test_a_pinned_route_is_under_the_rules():
    denied = verdict(Pinned("code", "x-session-id"), rules=(permit(), forbid("no-code", routes=frozenset({"code"}))))

    assert (denied.status, denied.rule_ids) == (403, ("no-code",))


def test_a_session_of_any_characters_has_a_name():
    assert pin("\ud800") != pin("\ud801")
