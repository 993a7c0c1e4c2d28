import pytest

from wissel.core.feedback import FEEDBACK_PATH, Feedback, read_feedback
from wissel.errors import UnreadableError

NO_ID = 'give "request_id": the x-wissel-request-id of the answer'
NO_SCORE = 'give "score": a number from 0 to 1'


@pytest.mark.parametrize(("written", "score"), [("0", 0.0), ("1", 1.0), ("0.25", 0.25)])
def test_a_score_is_for_a_request(written, score):
    found = read_feedback(f'{{"request_id": "wr-1", "score": {written}}}'.encode())

    assert (found, type(found.score)) == (Feedback("wr-1", score), float)


@pytest.mark.parametrize(
    ("data", "message", "param"),
    [
        (b"{", "the body is not JSON", None),
        (b"[" * 16_384, "the body is not JSON", None),
        (b"[" * 16_385, "feedback has at most 16384 bytes", None),
        (b"[]", NO_ID, "request_id"),
        (b'{"score": 1}', NO_ID, "request_id"),
        (b'{"request_id": "", "score": 1}', NO_ID, "request_id"),
        (b'{"request_id": 7, "score": 1}', NO_ID, "request_id"),
        (b'{"request_id": "a"}', NO_SCORE, "score"),
        (b'{"request_id": "a", "score": true}', NO_SCORE, "score"),
        (b'{"request_id": "a", "score": "1"}', NO_SCORE, "score"),
        (b'{"request_id": "a", "score": 1.01}', NO_SCORE, "score"),
        (b'{"request_id": "a", "score": -0.01}', NO_SCORE, "score"),
        (b'{"request_id": "a", "score": NaN}', NO_SCORE, "score"),
    ],
)
def test_anything_else_is_told_what_would_be_right(data, message, param):
    with pytest.raises(UnreadableError) as refused:
        read_feedback(data)

    assert (str(refused.value), refused.value.param) == (message, param)


def test_its_path_is_the_documented_one():
    assert FEEDBACK_PATH == "/v1/feedback"
