"""Usage as providers tell it, recorded by their documents and their servers' answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.apis.answers import reader_for
from wissel.apis.table import APIS
from wissel.apis.usage import MOST, ToldUsage
from wissel.core.outcome import Usage

TOLD: dict[str, tuple[str, dict[str, Any], Usage]] = {
    "openai chat": (
        "chat",
        {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
         "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
         "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0, "accepted_prediction_tokens": 0}},
        Usage(2006, 300, 1920, 128),
    ),
    "openai completions": (
        "completions", {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}, Usage(5, 7)
    ),
    "openai embeddings": ("embeddings", {"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
    "openai responses": (
        "responses",
        {"input_tokens": 328, "input_tokens_details": {"cached_tokens": 128}, "output_tokens": 52,
         "output_tokens_details": {"reasoning_tokens": 12}, "total_tokens": 380},
        Usage(328, 52, 128, 12),
    ),
    "anthropic": (
        "messages",
        {"input_tokens": 21, "cache_creation_input_tokens": 188_086, "cache_read_input_tokens": 0,
         "cache_creation": {"ephemeral_5m_input_tokens": 188_086, "ephemeral_1h_input_tokens": 0},
         "output_tokens": 393, "service_tier": "standard"},
        Usage(188_107, 393, written_tokens=188_086),
    ),
    "anthropic, read": (
        "messages",
        {"input_tokens": 21, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 188_086,
         "output_tokens": 393},
        Usage(188_407, 393, 188_086, written_tokens=300),
    ),
    "openai chat, written": (
        "chat",
        {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
         "prompt_tokens_details": {"cached_tokens": 900, "cache_write_tokens": 1000}},
        Usage(2006, 300, 900, written_tokens=1000),
    ),
    "openai responses, written": (
        "responses",
        {"input_tokens": 328, "input_tokens_details": {"cached_tokens": 128, "cache_write_tokens": 64},
         "output_tokens": 52, "total_tokens": 380},
        Usage(328, 52, 128, written_tokens=64),
    ),
    "anthropic, without cache": ("messages", {"input_tokens": 10, "output_tokens": 3}, Usage(10, 3)),
    "litellm before anthropic, chat": (
        "chat",
        {"prompt_tokens": 10_000, "completion_tokens": 20, "total_tokens": 10_020,
         "prompt_tokens_details": {"cached_tokens": 9000, "cache_creation_tokens": 0},
         "cache_read_input_tokens": 9000, "cache_creation_input_tokens": 0},
        Usage(10_000, 20, 9000),
    ),
    "litellm before anthropic, written": (
        "chat",
        {"prompt_tokens": 10_000, "completion_tokens": 20, "total_tokens": 10_020,
         "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_tokens": 9000},
         "cache_read_input_tokens": 0, "cache_creation_input_tokens": 9000},
        Usage(10_000, 20, written_tokens=9000),
    ),
    "litellm before anthropic, responses": (
        "responses",
        {"input_tokens": 10_000, "output_tokens": 20, "total_tokens": 10_020,
         "input_tokens_details": {"cached_tokens": 9000}, "cache_read_input_tokens": 9000},
        Usage(10_000, 20, 9000),
    ),
    "litellm, messages with a total": (
        "messages",
        {"input_tokens": 1000, "output_tokens": 20, "total_tokens": 10_020, "cache_read_input_tokens": 9000},
        Usage(10_000, 20, 9000),
    ),
    "litellm, messages with a total, cached within": (
        "messages",
        {"input_tokens": 10_000, "output_tokens": 20, "total_tokens": 10_020, "cache_read_input_tokens": 9000},
        Usage(10_000, 20, 9000),
    ),
    "deepseek": (
        "chat",
        {"prompt_tokens": 1019, "completion_tokens": 37, "total_tokens": 1056, "prompt_cache_hit_tokens": 960,
         "prompt_cache_miss_tokens": 59, "completion_tokens_details": {"reasoning_tokens": 21}},
        Usage(1019, 37, 960, 21),
    ),
    "gemini's openai endpoint, thoughts beside the completion": (
        "chat", {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 1052}, Usage(12, 1040)
    ),
    "xai, reasoning beside the completion": (
        "chat",
        {"prompt_tokens": 37, "completion_tokens": 530, "total_tokens": 800,
         "prompt_tokens_details": {"text_tokens": 37, "cached_tokens": 8},
         "completion_tokens_details": {"reasoning_tokens": 233}},
        Usage(37, 763, 8, 233),
    ),
    "reasoning beside the completion, without a total": (
        "chat",
        {"prompt_tokens": 37, "completion_tokens": 30, "completion_tokens_details": {"reasoning_tokens": 233}},
        Usage(37, 263, 0, 233),
    ),
    "mistral": (
        "chat",
        {"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 109, "num_cached_tokens": 64,
         "prompt_audio_seconds": {}},
        Usage(100, 9, 64),
    ),
    "moonshot": (
        "chat", {"prompt_tokens": 80, "completion_tokens": 9, "total_tokens": 89, "cached_tokens": 64}, Usage(80, 9, 64)
    ),
    "openrouter": (
        "chat",
        {"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cost": 0.95,
         "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 0},
         "completion_tokens_details": {"reasoning_tokens": 0}, "cost_details": {"upstream_inference_cost": None}},
        Usage(194, 2, 100),
    ),
    "vllm": (
        "chat",
        {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": None},
        Usage(7, 3),
    ),
    "sglang": (
        "chat",
        {"prompt_tokens": 7, "completion_tokens": 30, "total_tokens": 37, "reasoning_tokens": 20},
        Usage(7, 30, 0, 20),
    ),
    "new-api, both names": (
        "chat",
        {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20, "input_tokens": 0, "output_tokens": 0,
         "input_tokens_details": None, "prompt_tokens_details": {"cached_tokens": 4}},
        Usage(14, 6, 4),
    ),
    "new-api before anthropic, cached beside the prompt": (
        "chat",
        {"prompt_tokens": 100, "completion_tokens": 6, "total_tokens": 106,
         "prompt_tokens_details": {"cached_tokens": 90_000}},
        Usage(90_100, 6, 90_000),
    ),
    "voyage": ("embeddings", {"total_tokens": 10}, Usage(10)),
    "jina": ("embeddings", {"total_tokens": 10, "prompt_tokens": 10}, Usage(10)),
}  # fmt: skip


def read(api: str, said: dict[str, Any]) -> Usage | None:
    reader = reader_for(APIS[api], {"content-type": "application/json"}, strip=False)
    assert reader is not None
    reader.feed(json.dumps(said).encode(), now=0.0)
    reader.finish()
    return reader.found.usage


@pytest.mark.parametrize("who", TOLD)
def test_each_provider_is_understood(who):
    api, told, expected = TOLD[who]

    assert read(api, {"model": "m", "usage": told}) == expected


@pytest.mark.parametrize("who", TOLD)
def test_whatever_api_was_called_what_is_told_decides(who):
    _, told, expected = TOLD[who]

    assert {read(api, {"model": "m", "usage": told}) for api in APIS} == {expected}


@pytest.mark.parametrize(
    "said",
    [
        {"x_groq": {"id": "req_1", "usage": {"prompt_tokens": 5, "completion_tokens": 2, "queue_time": 0.1}}},
        {"choices": [{"index": 0, "delta": {}, "usage": {"prompt_tokens": 5, "completion_tokens": 2}}]},
    ],
)
def test_usage_may_stand_elsewhere_in_a_stream(said):
    assert read("chat", said) == Usage(5, 2)


def test_a_stream_that_begins_with_some_and_ends_with_others_is_read_together():
    counts = ToldUsage()
    counts.take({"usage": {"input_tokens": 25, "cache_read_input_tokens": 70, "output_tokens": 1}})
    counts.take({"usage": {"output_tokens": 15, "input_tokens": 0}})

    assert counts.usage == Usage(95, 15, 70)


def test_a_usage_of_nothing_is_none():
    assert read("chat", {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}) is None


counts = st.integers(0, MOST)


@given(st.dictionaries(st.sampled_from(sorted({name for _, told, _ in TOLD.values() for name in told})), counts))
def test_whatever_is_told_cached_tokens_are_some_of_the_input(told):
    usage = read("chat", {"usage": told})

    assert usage is None or 0 <= usage.cached_tokens <= usage.input_tokens


def test_what_is_counted_at_last_stands_for_what_was_guessed():
    told = ToldUsage()
    told.take({"usage": {"input_tokens": 40, "output_tokens": 1}})
    told.take({"usage": {"input_tokens": 30, "output_tokens": 0}}, has_counted=True)

    assert told.usage == Usage(30, 1)
