"""Answers and streams of every format in the words of every other."""

import json
from typing import Any

import pytest

from wissel.apis.answers import reader_for
from wissel.apis.simulated import Answer
from wissel.apis.table import APIS
from wissel.apis.translation.answering import StreamTranslation, translated_answer
from wissel.apis.translation.dialects import DIALECTS
from wissel.apis.translation.form import CutError, Occasion
from wissel.core.outcome import Usage

ASKED = Occasion(id="req-1", model="asked", now=5, input_tokens=7)
SIMULATED = Answer("qwen", 7, {"model": "m", "stream_options": {"include_usage": True}}, "hi you", created=9)
PAIRS = [(spoken, wanted) for spoken in DIALECTS for wanted in DIALECTS]


def translated(stream: bytes, spoken: str, wanted: str, occasion: Occasion = ASKED) -> bytes:
    translation = StreamTranslation(occasion, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])
    return translation.feed(stream) + translation.finish()


def learned(api: str, body: bytes, kind: str) -> Any:
    """What wissel itself learns of a body."""
    reader = reader_for(APIS[api], {"content-type": kind}, strip=False)
    assert reader
    reader.feed(body, now=1.0)
    reader.finish()
    found = reader.found
    return found.usage, found.error, found.ended, found.model, found.seen_bytes


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_what_is_learned_of_a_stream_is_learned_of_its_translation(spoken: str, wanted: str):
    events = APIS[spoken].simulation.events
    assert events
    stream = b"".join(events(SIMULATED))

    assert learned(wanted, translated(stream, spoken, wanted), "text/event-stream") == (
        Usage(1, 9), "", True, "m", len(SIMULATED.text),
    )  # fmt: skip


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_what_is_learned_of_an_answer_is_learned_of_its_translation(spoken: str, wanted: str):
    whole = json.dumps(APIS[spoken].simulation.whole(SIMULATED)).encode()
    status, body = translated_answer(whole, ASKED, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])

    assert (status, *learned(wanted, body, "application/json")[:4]) == (200, Usage(1, 9), "", True, "m")


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_a_stream_that_is_cut_is_never_finished(spoken: str, wanted: str):
    events = APIS[spoken].simulation.events
    assert events
    translation = StreamTranslation(ASKED, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])
    told = translation.feed(b"".join(list(events(SIMULATED))[:6]))

    with pytest.raises(CutError):
        translation.finish()
    assert learned(wanted, told, "text/event-stream")[2] is False
