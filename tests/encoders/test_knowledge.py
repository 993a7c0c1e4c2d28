import numpy as np
import pytest

from wissel.encoders.base import encode_with
from wissel.encoders.export import packaged
from wissel.encoders.knowledge import Knowledge
from wissel.encoders.ordinary import known_languages, nonsense, ordinary_texts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def known(encoder):
    knowledge, encode = packaged.load_knowledge("joint"), encode_with(encoder.read)

    def understands(text):
        return knowledge.understands(text, encode([text])[0])

    return understands


@pytest.mark.parametrize(
    "text",
    [
        "how do I reset my password",
        "wie wird das Wetter",
        "今天天气怎么样",
        "ما هو الطقس",
        "날씨 어때",
        "SELECT 1 FROM t",
    ],
)
def test_what_people_write_is_understood(known, text):
    assert known(text)


@pytest.mark.parametrize(
    "text",
    [
        "मेरा पासवर्ड बदल दो",
        "badilisha nenosiri langu sasa hivi tafadhali",
        "aGVsbG8gd29ybGQhIHRoaXMgaXMgYmFzZTY0IHRleHQgYW5kIG1vcmU=",
        "xq zzvk wpltr qqj vbnm wrtp",
    ],
)
def test_what_the_encoder_was_never_shown_is_not(known, text):
    assert not known(text)


@pytest.mark.parametrize(
    ("turn", "new"),
    [
        ("go ahead then", False),
        ("ja, genau", False),
        ("好的，谢谢", False),
        ("translate my CV into French", True),
        ("wie hoch ist die Miete", True),
    ],
)
def test_a_turn_that_follows_up_asks_nothing_new(encoder, turn, new):
    newness = packaged.load_knowledge("joint").newness(encode_with(encoder.read)([turn]))[0]

    assert (newness > 0.5) == new


def test_an_encoder_of_english_finds_out_that_it_knows_no_chinese(exported):
    vectors = encode_with(packaged.load("minilm").read)([each.text for each in ordinary_texts()])

    assert "en" in known_languages(vectors)
    assert not {"zh", "ar", "th", "ko"} & {*known_languages(vectors)}


def test_what_was_learned_is_kept(tmp_path, encoder):
    found = packaged.load_knowledge("joint")
    found.save(tmp_path / "knowledge.npz")
    again = Knowledge.load(tmp_path / "knowledge.npz")

    assert again.languages == found.languages
    np.testing.assert_array_equal(again.strange.weights, found.strange.weights)


def test_ordinary_texts_are_the_same_in_every_language():
    counts = {(each.language, each.kind): 0 for each in ordinary_texts()}
    for each in ordinary_texts():
        counts[each.language, each.kind] += 1

    assert len({language for language, _ in counts}) == 16
    assert {count for (_, kind), count in counts.items() if kind == "requests"} == {14}


def test_nonsense_is_the_same_each_time():
    first = nonsense()
    nonsense.cache_clear()

    assert nonsense() == first
