import asyncio

import pytest
from structlog.testing import capture_logs

from wissel.core.access import Principal
from wissel.core.decision import Denied
from wissel.store.audit import Audit
from wissel.store.denials import QUIET_SECONDS, Denials


def denied(who: str = "ada", *rules: str) -> Denied:
    return Denied(403, "no", "permission_error", "forbidden", principal=Principal(who), rule_ids=rules)


def test_of_many_refusals_that_are_alike_one_is_told_and_the_others_are_counted():
    now = 0.0
    denials = Denials(None, clock=lambda: now)
    with capture_logs() as lines:
        for number in range(50):
            denials.denied(denied(), f"wr-{number}")
        denials.denied(denied("bob"), "wr-b")
        denials.denied(denied("ada", "rule"), "wr-r")
        now = QUIET_SECONDS
        denials.denied(denied(), "wr-later")

    assert [(line["principal"], line["rules"], line["more_like_it"]) for line in lines] == [
        ("ada", [], 0), ("bob", [], 0), ("ada", ["rule"], 0), ("ada", [], 49),
    ]  # fmt: skip


@pytest.mark.slow
async def test_a_refusal_is_in_the_audit_trail(redis, keys):
    denials = Denials(Audit(redis, keys))
    writing = asyncio.create_task(denials.run())
    denials.denied(denied("ada", "no-code"), "wr-1")
    for _ in range(200):
        if lines := await Audit(redis, keys).latest(5):
            break
        await asyncio.sleep(0.01)
    writing.cancel()

    assert (lines[0].subject, lines[0].by, lines[0].detail["rules"]) == ("request", "ada", ["no-code"])
