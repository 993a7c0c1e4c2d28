import json

from wissel.apis.errors import error_body, openai_error
from wissel.core.refusals import unreadable
from wissel.errors import UnreadableError


def test_a_refusal_is_an_error_of_openais():
    denied = unreadable(UnreadableError("give one", param="model"))

    assert json.loads(openai_error(denied)) == {
        "error": {"message": denied.message, "type": denied.type, "param": "model", "code": denied.code}
    }


def test_an_error_about_no_member_has_no_param():
    assert json.loads(error_body("m", kind="k", code="c")) == {
        "error": {"message": "m", "type": "k", "param": None, "code": "c"}
    }
