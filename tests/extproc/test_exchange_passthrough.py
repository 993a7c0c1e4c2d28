"""What goes through the exchange and is no LLM call: other paths, uploads that name models, upgrades, feedback."""

import pytest

from playbook import ADA, BUFFERED, DUPLEX, Like, Playbook, Refused, asks, sends
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Passed
from wissel.core.feedback import Feedback
from wissel.core.request import Head
from wissel.core.snapshot import Passthrough, Terms
from wissel.extproc.events import Decide, Identify, Refuse, Reply, RequestTrailers, Score
from wissel.extproc.mutation import ImmediateResponse, Mutation

FILES = Passed(Passthrough("/v1/files", "files"), ANONYMOUS, "r1")
METADATA = {"principal": "anonymous", "revision": "r1"}
TO_FILES = Mutation(set_headers={"x-wissel-cluster": "files"}, reroute=True)


def test_a_passthrough_goes_on_and_asks_for_no_body():
    on = Mutation(set_headers={"x-wissel-cluster": "files"}, remove_headers=("x-wissel-model",), reroute=True)

    assert (
        Playbook()
        >> asks("/v1/files", x_wissel_model="evil")
        << Identify
        >> ANONYMOUS
        << Decide
        >> FILES
        << Reply("request_headers", on, METADATA, skip_body=True)
    )


def test_a_passthrough_whose_body_comes_all_the_same_is_left_alone():
    assert (
        Playbook()
        >> asks("/v1/files")
        << Identify
        >> ANONYMOUS
        << Decide
        >> FILES
        << Reply("request_headers", TO_FILES, METADATA, skip_body=True)
        >> sends(b"data")
        << Reply("request_body")
    )


def test_a_duplex_body_is_handed_back_even_if_nothing_changes():
    assert (
        Playbook(DUPLEX)
        >> asks("/v1/files")
        << Identify
        >> ANONYMOUS
        << Decide
        >> FILES
        << Reply("request_headers", TO_FILES, METADATA, skip_body=True)
        >> sends(b"data")
        << Reply("request_body", chunk=b"data", end_of_stream=True)
    )


def test_a_duplex_passthrough_that_waits_loses_nothing():
    assert (
        Playbook(DUPLEX)
        >> asks("/v1/files")
        << Identify
        >> ANONYMOUS
        << Decide
        >> sends(b"data")
        >> FILES
        << Reply("request_headers", TO_FILES, METADATA, skip_body=True)
        << Reply("request_body", chunk=b"data", end_of_stream=True)
    )


def test_an_upgrade_that_goes_on_asks_for_no_body():
    assert (
        Playbook(terms=Terms(upgrades=("/v1/realtime",)))
        >> asks("/v1/realtime", method="GET", upgrade="websocket")
        << Identify
        >> ANONYMOUS
        << Decide
        >> Passed(Passthrough("/v1/realtime", "live"), ANONYMOUS, "r1")
        << Like(Reply, phase="request_headers", skip_body=True)
    )


# Forms, which may name a model.

AUDIO = Terms(passthrough=(Passthrough("/v1/audio", "audio", reads_models=True),), max_body_bytes=400)
FORM_TYPE = "multipart/form-data; boundary=e"
FORM = b'--e\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--e--\r\n'
TO_AUDIO = Mutation(set_headers={"x-wissel-cluster": "audio"}, reroute=True)
PASSED = Passed(Passthrough("/v1/audio", "audio"), ADA, "r1")
ADAS = {"principal": "ada", "revision": "r1"}


def form(path: str = "/v1/audio/transcriptions"):
    return asks(path, content_type=FORM_TYPE)


def deciding(*models: str) -> Like:
    return Like(Decide, subject=Like(Head, models=models), caller=ADA)


def test_a_form_is_read_before_its_passthrough_is_decided():
    assert (
        Playbook(terms=AUDIO)
        >> form("/v1/audio/transcriptions?model=tiny")
        << Identify
        >> ADA
        << Reply("request_headers")
        >> sends(FORM)
        << deciding("tiny", "whisper")
        >> PASSED
        << Reply("request_body", TO_AUDIO, ADAS)
    )


def test_a_form_that_streams_is_held_until_it_is_decided():
    assert (
        Playbook(DUPLEX, terms=AUDIO)
        >> form()
        << Identify
        >> ADA
        >> sends(FORM[:20], more=True)
        >> sends(FORM[20:])
        << deciding("whisper")
        >> PASSED
        << Reply("request_headers", TO_AUDIO, ADAS, skip_body=True)
        << Reply("request_body", chunk=FORM, end_of_stream=True)
    )


def test_a_form_that_trailers_end_is_refused():
    assert (
        Playbook(DUPLEX, terms=AUDIO)
        >> form()
        << Identify
        >> ADA
        >> sends(FORM, more=True)
        >> RequestTrailers()
        << Refused(400, "request_trailers")
    )


def test_a_passthrough_that_is_on_its_way_when_trailers_come_goes_no_further():
    play = (
        Playbook(DUPLEX)
        >> asks("/v1/files")
        << Identify
        >> ANONYMOUS
        << Decide
        >> FILES
        << Reply("request_headers", TO_FILES, METADATA, skip_body=True)
        >> sends(b"data", more=True)
        << Reply("request_body", chunk=b"data")
        >> RequestTrailers()
        << Refused(400, "request_trailers")
    )

    assert play.exchange.decision == FILES


def test_a_passthrough_whose_trailers_are_there_before_it_is_decided_does_not_begin():
    assert (
        Playbook(DUPLEX)
        >> asks("/v1/files")
        << Identify
        >> ANONYMOUS
        << Decide
        >> sends(b"data", more=True)
        >> RequestTrailers()
        >> FILES
        << Refused(400, "request_trailers")
    )


def test_a_form_that_streams_has_no_clock_of_envoys():
    play = Playbook(DUPLEX, terms=AUDIO) >> form() << Identify >> ADA

    assert play.exchange.is_reading_body


@pytest.mark.parametrize(
    ("body", "refused"),
    [(FORM[:-4], Refused(400, "unreadable_request")), (FORM * 9, Refused(413, "request_too_large"))],
)
def test_a_form_that_cannot_be_read_goes_nowhere(body, refused):
    assert Playbook(DUPLEX, terms=AUDIO) >> form() << Identify >> ADA >> sends(body) << refused


def test_an_upload_where_no_model_is_named_is_not_read():
    assert (
        Playbook(terms=AUDIO)
        >> form("/v1/files")
        << Identify
        >> ADA
        << Decide
        >> PASSED
        << Reply("request_headers", TO_AUDIO, ADAS, skip_body=True)
    )


# Feedback.


def scoring(protocol=BUFFERED) -> Playbook:
    play = Playbook(protocol) >> asks("/v1/feedback") << Identify >> ADA
    return play if protocol is DUPLEX else play << Reply("request_headers")


@pytest.mark.parametrize("protocol", [BUFFERED, DUPLEX])
def test_feedback_is_scored_and_answered_without_any_model(protocol):
    play = scoring(protocol) >> sends(b'{"request_id": "wr-7", "score": 1}') << Score(Feedback("wr-7", 1.0), ADA)
    waits = play.exchange.is_settled

    assert play >> "accepted" << Like(Refuse, response=Like(ImmediateResponse, status=200))
    assert (waits, play.exchange.is_settled) == (False, True)


@pytest.mark.parametrize(
    ("answer", "status"),
    [("already_given", 409), ("request_not_found", 404), ("store_away", 503), ("feedback_not_kept", 404)],
)
def test_feedback_that_does_not_count_is_told(answer, status):
    assert scoring() >> sends(b'{"request_id": "wr-7", "score": 0.5}') << Score >> answer << Refused(status, answer)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"score": 1}', b'{"request_id": "", "score": 1}', b'{"request_id": "wr-7", "score": true}',
     b'{"request_id": "wr-7", "score": 1.5}', b'{"request_id": "wr-7", "score": NaN}'],
)  # fmt: skip
def test_feedback_that_cannot_be_read_is_400(body):
    assert scoring() >> sends(body) << Refused(400, "unreadable_request")
