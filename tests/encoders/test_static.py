from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from wissel.encoders.static import STATIC_WIDTH, WORD_CHARS, Immediate, StaticEncoder
from wissel.errors import ModelError

TABLE = np.array([[1, 1], [3, 0], [0, 4], [0, 0.1]], np.float16)


@pytest.fixture
def words():
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "play": 1, "jazz": 2, "the": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return StaticEncoder(TABLE, tokenizer)


def test_a_text_is_the_mean_of_its_tokens(words):
    np.testing.assert_allclose(words.encode(["play jazz", "jazz the"]), [[0.6, 0.8], [0, 1]], atol=1e-3)


def test_a_word_said_again_is_not_tokenized_again(words):
    words.encode(["play jazz"])
    words._tokenizer = None

    np.testing.assert_allclose(words.encode(["jazz play"]), [[0.6, 0.8]], atol=1e-3)


def test_a_very_long_word_is_not_remembered(words):
    words.encode(["the " + "x" * (WORD_CHARS + 1)])

    assert words._known.cache_info().currsize == 1


def test_a_text_without_tokens_is_a_blank(words):
    np.testing.assert_allclose(words.encode([""]), [[0.5**0.5, 0.5**0.5]], atol=1e-3)


def test_a_lone_surrogate_is_read(words):
    assert np.isfinite(words.encode(["play \ud800"])).all()


async def test_vectors_need_no_waiting(words):
    reader = Immediate(words)

    for (reading,) in (reader.recall(["play"]), await reader.read(["play"])):
        np.testing.assert_array_equal(reading.vectors, words.encode(["play"]))


def test_a_damaged_table_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ModelError, match=r"does not load: .*delete the folder and run: wissel encoder"):
        StaticEncoder.load(tmp_path)


@pytest.mark.slow
def test_the_real_table_knows_what_words_mean(exported):
    encoder = StaticEncoder.load(exported)
    song, tune, error = encoder.encode(["a song", "music", "exception"])

    assert song.shape == (STATIC_WIDTH,)
    assert song @ tune > song @ error + 0.2


@pytest.mark.slow
@given(st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from(" \t\n'-.\u0301中[SEP]"), max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_word_by_word_gives_the_tokens_of_the_whole_text(exported, text):
    encoder = real_table(exported)
    whole = encoder._tokenizer.encode(text, add_special_tokens=False).ids or [0]
    mean = encoder._table[whole].mean(axis=0, dtype=np.float32)

    np.testing.assert_allclose(encoder.encode([text])[0], mean / np.linalg.norm(mean), atol=1e-5)


real_table = cache(StaticEncoder.load)
