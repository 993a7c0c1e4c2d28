"""Where models are named, in requests as each provider documents them."""

from typing import Any

import pytest

from reading import named_in_json
from wissel.apis.places import IN_JSON, is_model, named_in_path

DOCUMENTED: list[tuple[str, Any]] = [
    ("all", {"model": "m", "input": "x"}),
    ("openrouter", {"models": ["m"]}),
    ("litellm", {"fallbacks": ["m"]}),
    ("litellm", {"fallbacks": [{"model": "m", "messages": []}]}),
    ("openai realtime", {"type": "session.update", "session": {"model": "m"}}),
    ("openai realtime", {"session": {"input_audio_transcription": {"model": "m"}}}),
    ("openai realtime", {"session": {"audio": {"input": {"transcription": {"model": "m"}}}}}),
    ("openai realtime", {"input_audio_transcription": {"model": "m", "language": "nl"}}),
    ("openai realtime", {"type": "response.create", "response": {"model": "m"}}),
    ("openai batches", {"custom_id": "1", "url": "/v1/chat/completions", "body": {"model": "m"}}),
    ("openai evals", {"data_source": {"type": "completions", "model": "m"}}),
    ("openai evals", {"testing_criteria": [{"type": "label_model", "model": "m"}]}),
    ("openai fine-tuning", {"grader": {"type": "score_model", "model": "m"}}),
    ("openai fine-tuning", {"method": {"type": "reinforcement", "reinforcement": {"grader": {"model": "m"}}}}),
    ("openai assistants", {"assistant": {"model": "m"}}),
    ("anthropic batches", {"requests": [{"custom_id": "1", "params": {"model": "m"}}]}),
    ("anthropic batches", {"custom_id": "1", "params": {"model": "m"}}),
    ("gemini", {"requests": [{"model": "m", "content": {}}]}),
    ("gemini", {"requests": [{"request": {"model": "m"}}]}),
    ("gemini", {"request": {"model": "m"}}),
    ("gemini batches", {"batch": {"model": "m"}}),
    ("bedrock", {"modelId": "m"}),
    ("watsonx", {"model_id": "m"}),
    ("triton, mlflow", {"model_name": "m"}),
]


@pytest.mark.parametrize(("provider", "body"), DOCUMENTED)
def test_a_model_is_found_where_a_provider_documents_it(provider: str, body: Any):
    assert (named_in_json(body), named_in_json([body])) == (["m"], ["m"])


def test_every_place_has_a_request_that_its_provider_documents():
    assert [place.provider for place in IN_JSON] == [provider for provider, _ in DOCUMENTED]


def test_a_place_is_told_as_a_reader_of_json_would_point_at_it():
    assert str(IN_JSON[3]) == "fallbacks[].model"


@pytest.mark.parametrize("name", ["Model", " model ", "m%6Fdel", "model[]", "MODELS", "modelId", "Model_Name"])
def test_a_name_may_be_spelled_in_any_way(name: str):
    assert (is_model(name), named_in_json({name: ["m"] if name == "MODELS" else "m"})) == (True, ["m"])


def test_what_is_no_text_is_no_model_that_is_known_and_nothing_is_nothing():
    assert named_in_json([{"model": 7}, {"model": {"id": "m"}}, {"model": None}, {"model": "x"}]) == [
        "7",
        "{…}",
        "x",
    ]


@pytest.mark.parametrize("value", [None, "model", 7, {}, [], {"x": {"model": "m"}}, {"models": {}}])
def test_elsewhere_no_model_is_named(value: Any):
    assert named_in_json(value) == []


@pytest.mark.parametrize(
    ("path", "models"),
    [
        ("/v1/models/gpt-4o", ["gpt-4o"]),
        ("/v1beta/models/gemini-2.5-pro:generateContent?alt=sse", ["gemini-2.5-pro"]),
        ("/v1/MODELS/llama3:8b", ["llama3:8b"]),
        ("/model/amazon.nova-pro-v1%3A0/converse", ["amazon.nova-pro-v1:0"]),
        ("/openai/deployments/gpt/chat/completions", ["gpt"]),
        ("/v1/engines/davinci/completions", ["davinci"]),
        ("/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent", ["g"]),
        ("/a/models/x/deployments/y", ["x", "y"]),
        ("/v1/models", []),
        ("/v1/files", []),
    ],
)
def test_a_path_names_what_follows_a_word_of_the_table(path: str, models: list[str]):
    assert named_in_path(path) == models


@pytest.mark.parametrize(
    "verb",
    [
        "generateContent", "streamGenerateContent", "batchGenerateContent", "embedContent", "batchEmbedContents",
        "asyncBatchEmbedContent", "countTokens", "computeTokens", "predict", "predictLongRunning", "rawPredict",
        "streamRawPredict", "serverStreamingPredict", "fetchPredictOperation",
    ],
)  # fmt: skip
def test_googles_verbs_are_no_part_of_a_name(verb: str):
    assert named_in_path(f"/v1/models/m:{verb}") == ["m"]
