"""What a playbook says of the exchange can be wrong, and then it fails."""

import pytest

from playbook import ADA, Playbook, Refused, asks
from wissel.extproc.events import Identify, Reply


def test_a_step_that_is_another_fails():
    with pytest.raises(AssertionError, match="the playbook says: Refused"):
        Playbook() >> asks() << Refused(400, "unreadable_request")


def test_a_step_that_is_not_taken_fails():
    with pytest.raises(AssertionError, match="<< nothing"):
        Playbook() >> asks() << Identify << Reply("request_headers")


def test_a_step_that_is_not_written_fails_the_next_line():
    with pytest.raises(AssertionError, match="the playbook says: nothing"):
        Playbook() >> asks() >> ADA


def test_a_step_that_is_not_written_fails_at_the_end():
    with pytest.raises(AssertionError, match="the playbook says: nothing"):
        assert Playbook() >> asks()


def test_an_answer_to_no_question_fails():
    with pytest.raises(AssertionError, match="nothing was asked"):
        Playbook() >> ADA
