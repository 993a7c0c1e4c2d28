import json
import time
import zlib

import numpy as np
import pytest
from tests.bench import classify as bench_classify
from tests.bench.classify import (
    PROTOCOLS,
    Message,
    main,
    measure_accuracy,
    measure_last_turn,
    measure_latency,
)

from wissel.encoders.base import read_with


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(bench_classify, "DRAWS", 3)


INTENTS = [f"intent_{number}" for number in range(25)]


def by_first_word(texts):
    """Knows a text by its first word, and `intent 3` and `intent_3 ...` as the same."""
    names = [text.replace("intent ", "intent_").split()[0] for text in texts]
    vectors = np.stack([np.random.default_rng(zlib.crc32(name.encode())).normal(size=64) for name in names])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


async def test_an_encoder_that_knows_the_intents_is_always_right():
    train = [Message(f"{intent} example {number}", intent) for intent in INTENTS for number in range(6)]
    asked = [Message(f"{intent} question", intent) for intent in INTENTS]
    nonsense = [Message(f"nonsense{number}", "other") for number in range(50)]

    measured = await measure_accuracy("words", read_with(by_first_word), train, asked + nonsense)

    assert [(row.intents, row.examples) for row in measured] == list(PROTOCOLS)
    for row in measured:
        assert (row.no_threshold, row.default_threshold) == (100, 100)
        assert 0 < row.other_recall <= 100


async def test_an_encoder_that_knows_nothing_is_right_by_chance():
    train = [Message(f"{intent} example {number}", intent) for intent in INTENTS for number in range(6)]
    asked = [Message(f"word{number} {intent}", intent) for number, intent in enumerate(INTENTS)]

    few_shot, zero_shot = await measure_accuracy(
        "words", read_with(by_first_word), train, [*asked, Message("x", "other")]
    )

    assert few_shot.no_threshold < 20
    assert zero_shot.no_threshold < 30


def test_equal_encoders_have_a_ratio_of_one(monkeypatch):
    monkeypatch.setattr(bench_classify, "REPEATS", 3)
    clock = iter(range(1000))
    monkeypatch.setattr(bench_classify.time, "process_time", lambda: next(clock))

    measured = measure_latency(by_first_word, by_first_word)

    assert [(row.tokens, row.ratio) for row in measured] == [(11, 1), (40, 1), (123, 1), (256, 1)]


async def test_of_a_conversation_that_goes_on_only_what_is_new_is_encoded(monkeypatch):
    monkeypatch.setattr(bench_classify, "REPEATS", 3)

    def slow(texts):
        time.sleep(0.002 * len(texts))
        return by_first_word(texts)

    measured = await measure_last_turn(read_with(slow))

    assert measured.questions == 6
    assert 4 <= measured.goes_on_ms < measured.unseen_ms


def test_data_that_is_missing_is_an_error_that_names_it(capsys, tmp_path):
    assert main(["--clinc", str(tmp_path)]) == 2

    assert "train.jsonl" in capsys.readouterr().err


@pytest.mark.slow
def test_the_bench_prints_json(monkeypatch, capsys, exported):
    monkeypatch.setattr(bench_classify, "REPEATS", 2)
    monkeypatch.setattr(bench_classify, "CALLS", 20)

    assert main(["--json"]) == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed["latency"][-1]["ratio"] < 1
    assert printed["throughput"][0]["together"] > 0
