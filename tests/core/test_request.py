"""What a conversation is, taken apart."""

from wissel.core.request import Conversation, Turn


def test_instructions_are_joined_line_by_line_wherever_they_stand():
    said = Conversation((Turn("system", "be brief"), Turn("user", "hi"), Turn("system", "be kind")))

    assert said.system == "be brief\nbe kind"
    assert Conversation((Turn("user", "hi"),)).system == ""
