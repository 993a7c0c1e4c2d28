import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wissel.classifiers.exchanges import (
    EARLIER,
    MOST_TOKENS,
    RECENT,
    DialogueExchange,
    exchanges_of,
    queries_of,
    texts_of,
)
from wissel.core.request import Conversation, Turn

PLENTY = 1 << 20


def said(*texts):
    """A conversation that begins with the user and takes turns."""
    roles = ("user", "assistant")
    return Conversation(tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts)))


def test_of_several_answers_before_a_question_the_last_one_counts():
    conversation = Conversation(
        (Turn("user", "a"), Turn("assistant", "one"), Turn("tool", "{}"), Turn("assistant", "two"), Turn("user", "b"))
    )

    assert exchanges_of(conversation, budget=PLENTY) == (DialogueExchange("a"), DialogueExchange("b", "two"))


def test_of_a_long_conversation_the_last_questions_the_first_and_the_longest_are_read():
    questions = ["a request", *("ok" for _ in range(40)), "a longer request in the middle", *("yes" for _ in range(40))]

    read = [
        each.question for each in exchanges_of(said(*(q for each in questions for q in (each, "fine"))), budget=PLENTY)
    ]

    assert len(read) == EARLIER + RECENT
    assert read[0] == "a request"
    assert "a longer request in the middle" in read
    assert read[-RECENT:] == ["yes"] * RECENT


def test_only_the_last_answers_are_read():
    read = exchanges_of(said(*(f"turn {number}" for number in range(60))), budget=PLENTY)

    assert [bool(each.answer) for each in read] == [False] * EARLIER + [True] * RECENT


def test_the_newest_texts_are_read_while_the_budget_lasts():
    read = exchanges_of(said("old " * 200, "", "new " * 100, "", "newest"), budget=120)

    assert [each.question.split()[0] for each in read] == ["new", "newest"]


@given(st.lists(st.text(max_size=2000), max_size=30), st.integers(64, 4096))
def test_a_request_never_costs_more_than_its_budget_and_one_text(turns, budget):
    read = exchanges_of(said(*turns), budget=budget)
    cost = sum(min(MOST_TOKENS, 2 + len(text.encode("utf-8", "replace")) // 4) for text in texts_of(read[:-1]))

    assert cost <= budget


def test_all_that_must_be_read_comes_the_newest_first():
    assert texts_of(exchanges_of(said("a", "b", "c"), budget=PLENTY)) == ["c", "b", "a"]


def test_a_query_is_the_question_alone_where_nothing_came_before(words):
    exchanges = (DialogueExchange("play some jazz"),)
    vectors = words(["play some jazz"])

    np.testing.assert_allclose(queries_of(exchanges, {"play some jazz": vectors[0]}), vectors, atol=1e-6)


def test_a_query_leans_to_the_newest_question(words):
    old, new = "a question that is long enough to have its full weight here", "b words that nobody else uses " * 3
    exchanges = (DialogueExchange(old), DialogueExchange(new))
    vectors = words([old, new])

    query = queries_of(exchanges, dict(zip((old, new), vectors, strict=True)))[-1]

    assert vectors[1] @ query > vectors[0] @ query > 0.2
