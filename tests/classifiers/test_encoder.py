from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wissel.classifiers.encoder import MAX_TOKENS, Encoder
from wissel.errors import ModelError

TEXTS = ["play some jazz", "why does this raise KeyError?", "x" * 50, "a much longer text about music " * 100, ""]


@pytest.mark.slow
def test_every_text_becomes_a_unit_vector(encoder):
    vectors = encoder.encode(TEXTS)

    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_a_texts_wording_stands_beside_its_vector(encoder):
    read = encoder.read(["is my account frozen", "freeze my account"])

    np.testing.assert_array_equal(read[:, :384], encoder.encode(["is my account frozen", "freeze my account"]))
    assert read.shape == (2, 768)
    assert not np.allclose(read[0, 384:], read[1, 384:], atol=0.1)


@pytest.mark.slow
def test_companions_never_change_a_vector(encoder):
    together = encoder.encode(TEXTS)

    np.testing.assert_array_equal(together, np.concatenate([encoder.encode([text]) for text in TEXTS]))


@pytest.mark.slow
def test_threads_may_encode_at_once(encoder):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(encoder.encode, [TEXTS] * 8))

    for answer in answers:
        np.testing.assert_array_equal(answer, answers[0])


@pytest.mark.slow
def test_a_long_text_is_read_up_to_its_256th_token(encoder):
    start = "word " * (MAX_TOKENS - 2)

    assert encoder.tokenize(start + "jazz " * 9).shape == (1, MAX_TOKENS)
    np.testing.assert_array_equal(encoder.encode([start + "jazz"]), encoder.encode([start]))


@pytest.mark.slow
def test_a_megabyte_is_cut_before_it_is_tokenized(encoder):
    np.testing.assert_array_equal(encoder.encode(["jazz " * 200_000]), encoder.encode(["jazz " * 300]))


@pytest.mark.slow
def test_a_lone_surrogate_is_read_as_a_question_mark(encoder):
    np.testing.assert_array_equal(encoder.encode(["play \ud800"]), encoder.encode(["play ?"]))


@pytest.mark.slow
def test_likeness_in_meaning_is_nearness(encoder):
    song, tune, error = encoder.encode(["play a song", "put on some music", "why does this raise KeyError?"])

    assert song @ tune > 0.5
    assert song @ error < 0.2


def test_a_missing_export_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(ModelError, match=r"does not load.*python -m wissel\.classifiers\.export"):
        Encoder.load(tmp_path)


@pytest.mark.slow
def test_a_damaged_export_is_an_error_that_says_what_to_run(exported, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((exported / "tokenizer.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes((exported / "model.onnx").read_bytes()[:1_000_000])

    with pytest.raises(ModelError, match="does not load"):
        Encoder.load(tmp_path)
