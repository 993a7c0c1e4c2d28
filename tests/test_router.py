"""The router with limits: what is drawn when, and what goes back."""

import asyncio
from dataclasses import replace

import pytest

from factories import model, permit, request, snapshot
from real import until
from wissel.core.access import Principal
from wissel.core.affinity import MadeId, Origin, Unreachable, owner_of
from wissel.core.decision import Decision, Denied, Kept, Passed, Routed
from wissel.core.intent import Scores
from wissel.core.limits import Charge, Drawn, Used
from wissel.core.outcome import Outcome, Usage
from wissel.core.pin import PinPolicy
from wissel.core.request import Head
from wissel.core.snapshot import Limit, Passthrough, Price, Rate
from wissel.router import Advisers, Router, SharedParts
from wissel.store.keys import Keys
from wissel.store.limits import Limiter

ada = Principal("ada", frozenset({"eng"}))
ONE = Rate(1, 86_400)


class Slow:
    """Finds everything to be code, once it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.may = asyncio.Event()

    def recall(self, conversation):
        return None

    async def classify(self, conversation):
        self.asked += 1
        await self.may.wait()
        return Scores({"chat": 0.2, "code": 0.9}, threshold=0.5)


class Watched(Limiter):
    """A replica without Redis that tells what it is asked."""

    def __init__(self) -> None:
        super().__init__(None, Keys("test"), "r")
        self.held: dict[str, Drawn] = {}
        self.settled: list[Used | None] = []

    async def draw(self, charges: tuple[Charge, ...], *, otherwise):
        found = await super().draw(charges, otherwise=otherwise)
        if isinstance(found, Drawn):
            self.held[found.id] = found
        return found

    def settle(self, drawn: Drawn, used: Used | None) -> None:
        del self.held[drawn.id]
        self.settled.append(used)
        super().settle(drawn, used)


def router(*limits: Limit, **fields) -> Router:
    fields = {"rules": (permit(),), "limits": limits, **fields}
    return Router(snapshot(**fields), Advisers(classifier=Slow(), deadline=1.0), SharedParts(limiter=Watched()))


async def ask(router: Router, subject) -> Routed | Passed | Kept | Denied:
    head = subject if isinstance(subject, Head) else Head("llm", "POST", subject.path, subject.headers)
    entered = router.enter(head, ada)
    drawn = entered if isinstance(entered, tuple) else await entered
    if isinstance(drawn, Denied):
        return drawn
    answer = router.decide(subject, ada, "wr-1", drawn)
    decision = answer if isinstance(answer, Decision) else await answer
    if isinstance(decision, Denied):
        router.settle(decision, None, drawn)
    return decision


async def test_the_caller_is_limited_before_anything_is_classified():
    one = router(Limit("key", "principal", requests=ONE))
    await ask(one, request("small"))
    denied = await ask(one, request("auto"))

    assert (denied.status, denied.limit_id) == (429, "key")
    assert one.advisers.classifier.asked == 0


async def test_a_refusal_of_the_models_limit_gives_the_callers_tokens_back():
    one = router(Limit("key", "principal", tokens=Rate(10, 86_400)), Limit("big", "model", requests=ONE))
    asked = [request(name, input_tokens=5) for name in ("large", "large", "large", "small")]
    statuses = [getattr(await ask(one, each), "status", 200) for each in asked]

    assert statuses == [200, 429, 429, 200]


async def test_a_refused_request_counts_as_one():
    one = router(Limit("key", "principal", requests=Rate(2, 86_400)), Limit("big", "model", requests=ONE))
    refused = [await ask(one, request(name)) for name in ("large", "large", "small")]

    assert [getattr(each, "limit_id", "") for each in refused] == ["", "big", "key"]


async def test_a_route_has_a_limit_of_its_own():
    one = router(Limit("code", "route", requests=ONE))
    one.advisers.classifier.may.set()
    first, second = [await ask(one, request("auto")) for _ in range(2)]

    assert isinstance(first, Routed)
    assert (second.limit_id, second.route) == ("code", "code")


async def test_a_request_that_no_model_can_serve_gives_back_its_tokens_and_its_place():
    one = router(Limit("key", "principal", tokens=Rate(5, 86_400), concurrent=1))
    images = frozenset({"text", "image"})
    denied = await ask(one, request("small", needs=images, input_tokens=5))

    assert denied.status == 400
    assert isinstance(await ask(one, request("small", input_tokens=5)), Routed)


async def test_a_caller_that_leaves_before_the_decision_gives_back_what_it_drew():
    one = router(Limit("key", "principal", tokens=ONE))
    waiting = asyncio.ensure_future(one.decide(request("auto"), ada, "wr-1"))
    await until(lambda: one.advisers.classifier.asked)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert one.shared.limiter.held == {}
    assert one.shared.limiter.settled == [None]


async def test_all_draws_are_settled_with_what_was_used():
    priced = model("small", price=Price(1.0, 1.0))
    one = router(
        Limit("key", "principal", requests=Rate(9, 60), tokens=Rate(10**6, 60), usd=Rate(10**12, 60)),
        models=(priced, model("large")),
    )
    routed = await ask(one, request("small", input_tokens=5))
    one.settle(routed, Outcome(200, 1.0, "chat", usage=Usage(40, 2), complete=True))

    assert one.shared.limiter.settled == [Used(42, 42_000)] * 3
    assert one.shared.limiter.held == {}


async def test_a_passthrough_meets_the_callers_limits():
    one = router(Limit("key", "principal", requests=ONE), passthrough=(Passthrough("/v1/files", "c"),))
    head = Head("other", "GET", "/v1/files", {})
    first, second = [await ask(one, head) for _ in range(2)]

    assert isinstance(first, Passed)
    assert second.limit_id == "key"


async def test_a_dry_run_draws_nothing():
    one = router(Limit("key", "principal", requests=ONE))
    for _ in range(3):
        assert isinstance(await ask(one.uncounted(), request("small")), Routed)


async def test_a_list_of_models_is_free():
    one = router(Limit("key", "principal", requests=ONE))
    for _ in range(3):
        answer = one.decide(Head("models", "GET", "/v1/models", {}), ada, "wr-1")
        assert answer.names


IN_SESSION = {"x-session-id": "s"}


def pinning() -> Router:
    one = router(pin=PinPolicy("x-session-id", 60.0))
    one.advisers.classifier.may.set()
    return one


async def test_a_served_session_is_not_classified_again():
    one = pinning()
    one.served(await ask(one, request("auto", headers=IN_SESSION)))
    again = await ask(one, request("auto", "something else", headers=IN_SESSION))

    assert (again.route, again.intent.reason, one.advisers.classifier.asked) == ("code", "pinned", 1)


async def test_what_was_not_served_pins_nothing():
    one = pinning()
    await ask(one.uncounted(), request("auto", headers=IN_SESSION))
    again = await ask(one, request("auto", headers=IN_SESSION))

    assert (again.intent.reason, one.advisers.classifier.asked) == ("match", 2)


async def test_a_call_without_text_stays_on_the_route_of_its_session():
    one = pinning()
    one.served(await ask(one, request("auto", headers=IN_SESSION)))
    again = await ask(one, request("auto", "", headers=IN_SESSION))

    assert (again.route, again.intent.reason) == ("code", "pinned")


# What goes on from an answer, or asks about one.

MADE = MadeId("responses", "resp_1")
GOING_ON = request("large", api="chat", previous=MADE, goes_on_by="previous_response_id")
ASKING = Head("kept", "GET", "/v1/responses/resp_1", {}, "responses", about=MADE, call_path="/v1/responses")


class Remembering:
    """Knows some origins itself, and finds others after a while."""

    def __init__(self, here: Origin | None = None, there: Origin | Unreachable | None = None) -> None:
        self.here = here
        self.there = there
        self.kept: dict[MadeId, Origin] = {}

    def recall(self, made: MadeId) -> Origin | None:
        return self.here

    async def find(self, made: MadeId) -> Origin | Unreachable | None:
        await asyncio.sleep(0)
        return self.there

    def keep(self, made: MadeId, origin: Origin) -> None:
        self.kept[made] = origin


def remembering(affinity: Remembering, *limits: Limit) -> Router:
    one = router(*limits)
    return replace(one, shared=replace(one.shared, affinity=affinity))


MADE_BY_SMALL = Origin("small", "small-cluster", "", owner_of(ada), "t", 0.0, 1e12)


@pytest.mark.parametrize("affinity", [Remembering(here=MADE_BY_SMALL), Remembering(there=MADE_BY_SMALL)])
@pytest.mark.parametrize("subject", [GOING_ON, ASKING])
async def test_the_model_that_made_an_answer_is_found_here_or_there(affinity, subject):
    decision = await ask(remembering(affinity), subject)

    assert decision.model.name == "small"


@pytest.mark.parametrize(("subject", "param"), [(GOING_ON, "previous_response_id"), (ASKING, None)])
async def test_where_nobody_can_say_the_caller_is_to_try_again(subject, param):
    denied = await ask(remembering(Remembering(there=Unreachable())), subject)

    assert (denied.status, denied.code, denied.param) == (503, "origin_unavailable", param)
    assert denied.headers["retry-after"] == "1"


async def test_an_id_that_nobody_knows_is_left_to_the_route():
    decision = await ask(remembering(Remembering()), GOING_ON)

    assert (decision.model.name, decision.lead, decision.reason) == ("large", "unknown", "static")


async def test_going_on_counts_against_the_limits_of_the_model_that_serves():
    one = remembering(Remembering(here=MADE_BY_SMALL), Limit("each", "model", requests=ONE))
    await ask(one, GOING_ON)
    denied = await ask(one, GOING_ON)

    assert (denied.status, denied.limit_id) == (429, "each")


async def test_to_ask_about_an_answer_counts_as_a_request_without_tokens():
    limits = Limit("key", "principal", requests=ONE), Limit("words", "principal", tokens=Rate(1, 86_400))
    one = remembering(Remembering(here=MADE_BY_SMALL), *limits)
    await ask(one, ASKING)
    denied = await ask(one, ASKING)

    assert (denied.status, denied.limit_id) == (429, "key")


async def test_what_is_made_is_remembered_with_whose_it_is():
    one = remembering(affinity := Remembering())
    decision = await ask(one, request("small", keeps=True, labels={"thread_id": "t"}))
    one.made(MADE, decision)
    origin = affinity.kept[MADE]

    assert replace(origin, at=0.0, until=1e12) == MADE_BY_SMALL


async def test_a_dry_run_goes_where_a_call_would():
    decision = await ask(remembering(Remembering(here=MADE_BY_SMALL)).uncounted(), GOING_ON)

    assert decision.model.name == "small"
