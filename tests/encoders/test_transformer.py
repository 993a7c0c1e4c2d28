import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from wissel.encoders.base import encode_with
from wissel.encoders.cache import CARD_FILE
from wissel.encoders.onnx import MODEL_FILE, TOKENIZER_FILE
from wissel.encoders.transformer import TOKENS, ModelCard, Transformer
from wissel.errors import ModelError

TEXTS = ["play some jazz", "why does this raise KeyError?", "x" * 50, "a much longer text about music " * 100, ""]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def minilm(exported):
    return Transformer.load(exported)


def test_every_text_becomes_a_unit_vector(minilm):
    vectors = encode_with(minilm.read)(TEXTS)

    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), minilm.dimensions), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_texts_wording_stands_beside_its_vector(minilm):
    one, other = minilm.read(["is my account frozen", "freeze my account"])

    assert one.wordings.shape == (1, minilm.card.wording)
    assert not np.allclose(one.wordings, other.wordings, atol=0.1)


def test_companions_never_change_a_vector(minilm):
    encode = encode_with(minilm.read)

    np.testing.assert_array_equal(encode(TEXTS), np.concatenate([encode([text]) for text in TEXTS]))


def test_threads_may_read_at_once(minilm):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(encode_with(minilm.read), [TEXTS] * 8))

    for answer in answers:
        np.testing.assert_array_equal(answer, answers[0])


def test_a_long_text_is_read_by_its_ends(minilm):
    (reading,) = minilm.read(["fix this error " + "word " * 500 + "play some jazz"])

    assert len(reading.texts) == 3
    assert reading.texts[1].startswith("fix this error")
    assert reading.texts[2].endswith("play some jazz")
    assert reading.vectors.shape == (3, minilm.dimensions)


def test_what_lies_between_the_ends_costs_nothing(minilm):
    short, long = (f"start {'word ' * count}end" for count in (200, 200_000))

    np.testing.assert_array_equal(*(encode_with(minilm.read)([text]) for text in (short, long)))


def test_a_prefix_is_read_as_the_texts_beginning(minilm):
    pieces = [("<unk>", 0.0), ("▁", -9.0), ("▁query:", -1.0), ("▁play", -1.0), ("▁jazz", -1.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    card = ModelCard("m", 2, 0, tokens=3, prefix="query: ")
    reader = Transformer(minilm.network, tokenizer, card, np.zeros(2, np.float32), TOKENS)

    assert reader.tokenize("play jazz") == [2, 3, 4]
    assert reader.tokenize("play jazz jazz") == [2, 3, 4]


def test_a_text_is_read_up_to_its_last_token(minilm):
    assert len(minilm.tokenize("word " * 500)) == TOKENS


def test_a_lone_surrogate_is_read_as_a_question_mark(minilm):
    encode = encode_with(minilm.read)

    np.testing.assert_array_equal(encode(["play \ud800"]), encode(["play ?"]))


def test_likeness_in_meaning_is_nearness(minilm):
    song, tune, error = encode_with(minilm.read)(["play a song", "put on some music", "why does this raise KeyError?"])

    assert song @ tune > 0.5
    assert song @ error < 0.2


def test_a_missing_export_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(ModelError, match=r"no exported encoder in .*wissel encoder export"):
        Transformer.load(tmp_path)


def test_a_card_that_says_something_else_is_an_error(tmp_path):
    (tmp_path / CARD_FILE).write_text(json.dumps({"name": "x", "languages": []}))

    with pytest.raises(ModelError, match="no exported encoder in"):
        Transformer.load(tmp_path)


def test_a_damaged_export_is_an_error_that_says_what_to_run(exported, tmp_path):
    for name in (CARD_FILE, TOKENIZER_FILE):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    (tmp_path / MODEL_FILE).write_bytes((exported / MODEL_FILE).read_bytes()[:1_000_000])

    with pytest.raises(ModelError, match=r"does not load.*wissel encoder export"):
        Transformer.load(tmp_path)
