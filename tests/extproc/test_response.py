"""What a response's headers say before anybody reads its body."""

import pytest

from wissel.extproc.response import seconds_to_wait

DATE = "Fri, 27 Nov 2026 20:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "Fri, 27 Nov 2026 20:01:30 GMT", "date": DATE}, 90.0),
        ({"retry-after": "Fri, 27 Nov 2026 19:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Fri, 27 Nov 2026 20:01:30 GMT"}, None),
        ({"retry-after": "Fri, 27 Nov 2026 20:01:30", "date": DATE}, None),
        ({"retry-after": "soon", "date": DATE}, None),
        ({"retry-after": "1e"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_a_server_says_when_to_come_back(headers: dict[str, str], seconds: float | None):
    assert seconds_to_wait(headers) == seconds
