"""Pages of a caller's answers."""

import json

import pytest

from wissel.apis.listing import page, page_asked
from wissel.core.decision import ListedAnswer
from wissel.errors import UnreadableError

ANSWERS = [ListedAnswer(f"c-{at}", "m", at) for at in range(30)]
PATH = "/v1/chat/completions"


def listed(query: str = "") -> tuple[list[str], bool]:
    told = json.loads(page(ANSWERS, page_asked(f"{PATH}?{query}"), lambda each: {"id": each.id}))
    ids = [each["id"] for each in told["data"]]
    assert (told["object"], told["first_id"], told["last_id"]) == (
        "list",
        *((ids[0], ids[-1]) if ids else (None, None)),
    )
    return ids, told["has_more"]


def test_the_oldest_come_first_and_twenty_at_a_time():
    assert listed() == ([f"c-{at}" for at in range(20)], True)


def test_a_page_follows_the_one_before():
    assert listed("after=c-19") == ([f"c-{at}" for at in range(20, 30)], False)


def test_the_latest_come_first_where_they_are_asked_for():
    assert listed("order=desc&limit=2&after=c-28") == (["c-27", "c-26"], True)


@pytest.mark.parametrize(("limit", "count"), [("1", 1), ("0", 1), ("100", 30), ("9" * 5000, 30)])
def test_a_page_has_a_size_that_servers_have(limit, count):
    assert len(listed(f"limit={limit}")[0]) == count


def test_after_what_is_not_there_comes_nothing():
    assert listed("after=c-99") == ([], False)


@pytest.mark.parametrize("query", ["metadata[a]=b", "limit=-1", "limit=x", "order=up", "&".join(["a=b"] * 40)])
def test_what_would_be_left_out_is_refused(query):
    with pytest.raises(UnreadableError):
        page_asked(f"{PATH}?{query}")


def test_a_blank_limit_is_no_number():
    with pytest.raises(UnreadableError, match="must be a number"):
        page_asked(f"{PATH}?limit=")


def test_a_query_of_too_many_fields_is_refused():
    page_asked(f"{PATH}?" + "&".join(["x=1"] * 32))

    with pytest.raises(UnreadableError, match="too many fields"):
        page_asked(f"{PATH}?" + "&".join(["x=1"] * 33))
