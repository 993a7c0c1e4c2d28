"""Ids that can be followed, and whose an answer is."""

import pytest

from wissel.core.access import Principal
from wissel.core.affinity import LONGEST_ID, is_id, owner_of


@pytest.mark.parametrize("text", ["resp_68a1", "chatcmpl-Ab3", "resp_bGl0ZQ==", "gen:1.2~a@b", "x" * LONGEST_ID])
def test_what_servers_call_their_answers_can_be_followed(text):
    assert is_id(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "a b", "a%2fb", "a?b", "a#b", "é", "a\n", "x" * (LONGEST_ID + 1)]
)
def test_what_a_path_could_be_read_in_two_ways_by_is_not_followed(text):
    assert not is_id(text)


@pytest.mark.parametrize("name", ["ada", "x" * 100_000, "\ud800"])
def test_an_owner_has_one_length_whoever_it_is(name):
    assert len(owner_of(Principal(name))) == 64


def test_two_callers_are_two_owners():
    assert owner_of(Principal("ada")) != owner_of(Principal("eve"))
