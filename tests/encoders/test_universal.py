import numpy as np
import pytest

from wissel.encoders import weights
from wissel.encoders.base import encode_with
from wissel.encoders.export import packaged, universal
from wissel.encoders.universal import TOKENS, Universal

pytestmark = pytest.mark.slow

SAMPLES = ["What is the capital of France?", "帮我找六月去里斯本的便宜机票", "x", "SELECT count(*) FROM orders"]


@pytest.fixture(scope="module")
def use(exported):
    return Universal.load(packaged.PARTS["use"].folder())


def test_a_sentence_is_near_to_itself_in_another_language(use):
    english, french, other = encode_with(use.read)(
        ["What is the capital of France?", "Quelle est la capitale de la France ?", "play some jazz"]
    )

    assert english @ french > 0.8
    assert english @ other < 0.3


def test_eight_bits_say_what_the_real_weights_say(use):
    torch = pytest.importorskip("torch")
    original = universal.load_original(weights.USE.find() / "resources")

    for text in SAMPLES:
        ids, _ = use._tokenize(text)
        with torch.inference_mode():
            (wanted,) = original(torch.from_numpy(use._embed(ids)), torch.ones(1, len(ids))).numpy()
        assert wanted @ encode_with(use.read)([text])[0] > 0.98


def test_a_window_is_read_as_if_it_stood_alone_nearly(use):
    text = "please book a flight to Oslo. " + "the weather was fine and nobody said a word. " * 12

    (reading,) = use.read([text])
    alone = encode_with(use.read)([reading.texts[1]])[0]

    assert reading.vectors[1] @ alone > 0.9
    assert reading.vectors[1] @ alone > reading.vectors[0] @ alone


def test_of_a_very_long_text_both_ends_are_read(use):
    ids, places = use._tokenize("one " * 10_000 + "two " * 10_000)

    assert len(ids) == TOKENS + 2
    assert places[0][0] == 0
    assert places[-1][1] >= 4 * 20_000 - 1


def test_every_vector_has_length_one(use):
    np.testing.assert_allclose(np.linalg.norm(encode_with(use.read)([*SAMPLES, "", " "]), axis=1), 1, atol=1e-5)
