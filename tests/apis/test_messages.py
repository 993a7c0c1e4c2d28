import json

import pytest

from wissel.apis.messages import MESSAGES
from wissel.core.decision import Denied


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"),
        (404, "not_found_error"), (408, "invalid_request_error"), (413, "request_too_large"),
        (429, "rate_limit_error"), (500, "api_error"), (503, "api_error"),
    ],
)  # fmt: skip
def test_an_error_has_anthropics_shape_and_its_words_for_each_status(status, kind):
    told = json.loads(MESSAGES.error(Denied(status, "no", "any_type", "any_code", "model")))

    assert told == {"type": "error", "error": {"type": kind, "message": "no", "param": "model", "code": "any_code"}}
