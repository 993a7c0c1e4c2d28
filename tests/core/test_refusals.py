import ast
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import request, snapshot
from wissel.core import refusals
from wissel.core.access import Forbid, Principal
from wissel.core.decision import Denied, Listed
from wissel.core.feedback import ScoreAnswer
from wissel.core.intent import Intent
from wissel.core.limits import Charge, Exceeded, MeterReading
from wissel.core.plan import Unable
from wissel.core.quoting import MOST_QUOTED
from wissel.core.refusals import duration, exceeded
from wissel.core.request import Head
from wissel.core.sentences import TABLE, VARIES, Refusal
from wissel.errors import UnreadableError, UnsupportedCodingError

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MINUTE, DAY = 60_000_000, 86_400_000_000
ada = Principal("ada")


def every_refusal(written: str) -> list[Denied]:
    """One of each that can be built, for a caller who wrote `written` wherever it can write."""
    caller = Principal(written)
    requests = Charge("per-key", "requests", "header", written, 600, MINUTE, 1)
    spend = Charge("team", "usd", "principal", written, 500_000_000_000, DAY, 1)
    unscored = [refusals.unscored(answer, written) for answer in get_args(ScoreAnswer)]
    return [
        refusals.unreadable(UnreadableError("the body is not a JSON object")),
        refusals.unreadable(UnreadableError("give one", param=written)),
        refusals.too_large(1024),
        refusals.unread_coding(UnsupportedCodingError("the content-encoding is not read here"), "gzip"),
        refusals.crowded(caller, 64 << 20),
        refusals.overrun(caller),
        refusals.unnamed_model(Head("other", "POST", written, {}, models=(written,)), caller, "r1"),
        refusals.unnamed_model(Head("other", "POST", written, {}), caller, "r1"),
        refusals.late(),
        refusals.trailers(),
        refusals.overdue(1),
        refusals.no_upgrade(),
        refusals.no_cors(written),
        refusals.not_a_call(),
        refusals.misconfigured("set processing_mode.request_header_mode to SEND"),
        refusals.no_key("r1"),
        refusals.wrong_key("r1"),
        refusals.expired_key(written, "r1"),
        refusals.wrong_token("the token has expired", "r1"),
        refusals.unknown_path("GET", written),
        refusals.unknown_model(written, caller, snapshot()),
        refusals.unlisted_model(written, Listed((), caller, "r1")),
        refusals.answer_not_found(written, caller, "r1"),
        refusals.origin_unavailable("previous_response_id", caller, "r1"),
        refusals.forbidden(Forbid(("no-code",)), request(written), caller, None, "r1"),
        refusals.forbidden_path(Forbid(), written, written, caller, "r1"),
        refusals.no_able_model(written, (Unable("small", "does not accept image"),), caller, None, "r1"),
        exceeded(Exceeded((requests,), (MeterReading(0, MINUTE, 1),)), caller, "r1"),
        exceeded(Exceeded((spend,), (MeterReading(0, DAY, 1),)), caller, "r1"),
        refusals.uncounted(caller, "r1"),
        *(denied for denied in unscored if denied is not None),
    ]


def test_a_refusal_after_the_configuration_was_asked_says_which_it_was():
    before_it = {denied.code for denied in every_refusal("x") if denied.revision != "r1"}

    assert before_it == {
        "unreadable_request", "request_too_large", "unsupported_coding", "too_many_bodies", "too_many_uploads",
        "request_timeout", "request_trailers", "upgrade_not_supported", "origin_not_allowed", "not_a_call",
        "unsupported_mode", "path_not_found", "deadline_passed",
            "already_given", "request_not_found", "store_away", "feedback_not_kept",
    }  # fmt: skip


def test_what_cannot_be_unpacked_is_told_with_what_can():
    denied = refusals.unread_coding(UnsupportedCodingError("send gzip"), "gzip")

    assert (denied.message, denied.headers) == ("send gzip", {"accept-encoding": "gzip"})


def rows_of(denied: Denied) -> list[Refusal]:
    """The rows that it can have been made of."""

    def says(row: Refusal) -> bool:
        return re.fullmatch(re.sub(r"\\{\w+\\}", ".*", re.escape(row.sentence)), denied.message) is not None

    return [row for row in TABLE if (row.status, row.code) == (denied.status, denied.code) and says(row)]


@cache
def calls(source: Path) -> frozenset[str]:
    """The names of what a module calls."""
    called = [node.func for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)]
    return frozenset(each.id if isinstance(each, ast.Name) else getattr(each, "attr", "") for each in called)


def test_every_row_is_told_by_something_and_nothing_else_is_told():
    told = [rows_of(denied) for denied in every_refusal("x")]

    assert (set(TABLE) - {row for rows in told for row in rows}, [rows for rows in told if not rows]) == (set(), [])


def test_a_refusal_is_built_in_one_module_only():
    # What the demo's servers say is no refusal of ours.
    ours = [source for source in SOURCES if "demo" not in source.parts]
    builders = [str(source.relative_to(ROOT)) for source in ours if "Denied" in calls(source)]

    assert builders == ["src/wissel/core/refusals.py"]


def test_everything_that_builds_a_refusal_is_asked_to():
    public = {
        node.name
        for node in ast.parse((ROOT / "src/wissel/core/refusals.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and "Denied" in ast.unparse(node.returns) and node.name[0] != "_"
    }
    called = {name for source in SOURCES for name in calls(source)}

    assert public - called == set()


@given(st.text(min_size=MOST_QUOTED + 1, max_size=3 * MOST_QUOTED))
def test_no_more_than_the_beginning_of_what_a_caller_wrote_is_repeated(written):
    assert all(
        written[: MOST_QUOTED + 1] not in text
        for denied in every_refusal(written)
        for text in (denied.message, denied.param or "")
    )


def test_the_rows_are_in_order_of_their_status():
    assert [row.status for row in TABLE] == sorted(row.status for row in TABLE)


def test_the_guide_has_the_table():
    def line(row: Refusal) -> str:
        param = f"`{row.param}`" if row.param not in {None, VARIES} else row.param or ""
        return f"| {row.status} | `{row.code}` | {row.sentence} | {param} | {row.when} |"

    table = "\n".join(["| status | code | sentence | param | when |", "|---|---|---|---|---|", *map(line, TABLE)])

    assert table in (ROOT / "docs/refusals.md").read_text(), f"docs/refusals.md should have\n{table}"


def test_a_refusal_says_which_limit_and_when_there_is_more():
    requests = Charge("per-key", "requests", "principal", "ada", 600, MINUTE, 1)
    tokens = Charge("per-key", "tokens", "principal", "ada", 5000, MINUTE, 70)
    denied = exceeded(
        Exceeded((requests, tokens), (MeterReading(3, 59_700_000), MeterReading(20, MINUTE, 1_200_001))), ada, "r1"
    )

    assert (denied.status, denied.code, denied.limit_id) == (429, "rate_limit_exceeded", "per-key")
    assert denied.message == (
        'limit "per-key": 5000 tokens in one minute for the principal "ada" is used up; there is more in 1.3s'
    )
    assert denied.headers == {
        "retry-after": "2",
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "59.7s",
        "x-ratelimit-limit-tokens": "5000",
        "x-ratelimit-remaining-tokens": "20",
        "x-ratelimit-reset-tokens": "1m0s",
    }


def test_a_budget_is_told_in_dollars():
    spend = Charge("team", "usd", "group", "eng", 500_000_000_000, DAY, 1)
    denied = exceeded(Exceeded((spend,), (MeterReading(0, DAY, 5_400_000_000),)), ada, "r1")

    assert (denied.status, denied.code) == (429, "budget_exceeded")
    assert denied.message == (
        'limit "team": 500 USD in one day for the group "eng" is used up; there is more in 1h30m0s'
    )


@pytest.mark.parametrize(
    ("us", "text"),
    [(0, "0ms"), (1, "1ms"), (350_000, "350ms"), (1_000_000, "1s"), (12_500_000, "12.5s"), (360_000_000, "6m0s"),
     (3_600_000_000, "1h0m0s"), (59_999_999, "1m0s")],
)  # fmt: skip
def test_a_duration_is_written_as_openai_does(us, text):
    assert duration(us) == text


@pytest.mark.parametrize(
    ("kind", "amount", "period", "told"),
    [
        ("concurrent", 4, 0, "4 requests at the same time"),
        ("requests", 10, 1_000_000, "10 requests in one second"),
        ("tokens", 10, 60 * MINUTE, "10 tokens in one hour"),
        ("usd", 2_500_000_000, 7 * MINUTE, "2.5 USD in one period"),
    ],
)
def test_a_limit_is_told_by_its_kind_and_span(kind, amount, period, told):
    charge = Charge("cap", kind, "principal", "ada", amount, period, 1)

    assert exceeded(Exceeded((charge,), (MeterReading(0, 1, 1),)), ada, "r1").message.startswith(
        f'limit "cap": {told} '
    )


@pytest.mark.parametrize(
    ("denied", "message"),
    [
        (refusals.forbidden(Forbid(("r",)), request("m"), ada, None, "r1"),
         '"ada" may not use the model "m": rule "r" forbids it'),
        (refusals.forbidden(Forbid(), request("m"), ada, Intent("code", "match"), "r1"),
         '"ada" may not use the model "m" for the route "code": no rule permits it'),
        (refusals.forbidden_path(Forbid(("a", "b")), "/v1/files", "m", ada, "r1"),
         '"ada" may not use the path "/v1/files" with the model "m": rule "a", "b" forbids it'),
        (refusals.unknown_model("smal", ada, snapshot()), 'no model is named "smal"; did you mean "small"?'),
        (refusals.unknown_model("smal", ada, snapshot(rules=())), 'no model is named "smal"'),
        (refusals.no_able_model("t", (Unable("a", "x"), Unable("b", "y")), ada, None, "r1"),
         'no model behind "t" can serve this request: "a" x; "b" y'),
        (refusals.no_able_model("t", (), ada, None, "r1"),
         'no model behind "t" can serve this request: its remaining variants have no weight'),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_refusal_says_who_what_and_why(denied: Denied, message: str):
    assert (denied.message, denied.principal) == (message, ada)


@pytest.mark.parametrize("denied", [refusals.overrun(ada), refusals.crowded(ada, 1 << 20)], ids=["overrun", "crowded"])
def test_who_brings_too_much_at_once_is_told_to_come_back_in_a_second(denied: Denied):
    assert (denied.status, denied.headers, denied.principal) == (429, {"retry-after": "1"}, ada)
