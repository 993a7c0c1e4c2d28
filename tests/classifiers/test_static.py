import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from wissel.classifiers.static import TABLE_WIDTH, Immediate, StaticEncoder
from wissel.errors import ModelError

TABLE = np.array([[1, 1], [3, 0], [0, 4], [0, 0.1]], np.float16)


@pytest.fixture
def words():
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "play": 1, "jazz": 2, "the": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return StaticEncoder(TABLE, tokenizer)


def test_a_text_is_the_mean_of_its_tokens(words):
    np.testing.assert_allclose(words.encode(["play jazz", "jazz the"]), [[0.6, 0.8], [0, 1]], atol=1e-3)


def test_a_text_without_tokens_is_a_blank(words):
    np.testing.assert_allclose(words.encode([""]), [[0.5**0.5, 0.5**0.5]], atol=1e-3)


def test_a_lone_surrogate_is_read(words):
    assert np.isfinite(words.encode(["play \ud800"])).all()


async def test_vectors_need_no_waiting(words):
    reader = Immediate(words)

    np.testing.assert_array_equal(reader.recall(["play"]), words.encode(["play"]))
    np.testing.assert_array_equal(await reader.encode(["play"]), words.encode(["play"]))


def test_a_damaged_table_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ModelError, match=r"does not load: .*delete the folder and run: python -m"):
        StaticEncoder.load(tmp_path)


@pytest.mark.slow
def test_the_real_table_knows_what_words_mean(exported):
    encoder = StaticEncoder.load(exported)
    song, tune, error = encoder.encode(["a song", "music", "exception"])

    assert song.shape == (TABLE_WIDTH,)
    assert song @ tune > song @ error + 0.2
