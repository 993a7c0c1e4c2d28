"""What a request's headers say, before anybody knows who asks."""

import pytest

from wissel.apis.paths import LONGEST
from wissel.core.decision import Denied
from wissel.core.snapshot import Terms
from wissel.extproc.events import Protocol, RequestHeaders
from wissel.extproc.heads import Asked, read_head


def asked(path: str) -> Asked:
    return read_head(RequestHeaders({":method": "GET", ":path": path}), Protocol("buffered", "streamed"), Terms())


@pytest.mark.parametrize("unit", ["/%2f", "/a/..", "/x"])
def test_a_path_that_no_server_has_is_not_read(unit: str):
    path = unit * LONGEST

    found = asked(path[: LONGEST + 1]).head

    assert isinstance(found, Denied)
    assert (found.status, len(found.message) < 300) == (404, True)


def test_a_query_may_be_longer():
    longest = "/" + "x" * (LONGEST - 1)

    assert not isinstance(asked(f"{longest}?{'q' * LONGEST}").head, Denied)
