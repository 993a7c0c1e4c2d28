import numpy as np
import pytest

from wissel.classifiers.words import WIDTH, Words


def cosine(words, one, two):
    first, second = words.vectors([one, two])
    return float(first @ second)


def test_vectors_are_of_length_one_even_without_a_word():
    np.testing.assert_allclose(np.linalg.norm(Words([]).vectors(["a b", "", "?!"]), axis=1), 1, rtol=1e-6)
    assert Words([]).vectors([]).shape == (0, WIDTH)


def test_case_and_punctuation_do_not_matter():
    assert cosine(Words([]), "Freeze my account!", "freeze my account") == pytest.approx(1)


def test_the_order_of_words_does():
    assert cosine(Words([]), "is my account frozen", "frozen is account my") < 0.9


def test_a_word_that_many_phrases_have_weighs_less():
    words = Words(["the cat", "the dog", "the cow", "the hen"])

    assert cosine(words, "the", "the pig") < cosine(Words([]), "the", "the pig")


def test_words_that_meet_in_one_place_count_against_each_other_as_often_as_for():
    vector = Words([]).vectors([" ".join(map(str, range(64)))])[0]

    assert 0.3 < (vector[vector != 0] > 0).mean() < 0.7


def test_what_comes_late_in_a_long_text_is_not_read():
    long = "one two " * 40

    assert cosine(Words([]), long, long + "three") == pytest.approx(1)
