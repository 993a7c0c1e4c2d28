"""Kinds of content parts, over all APIs."""

import json
from typing import Any

import pytest

from reading import read_body, understand
from wissel.apis.parts import MODALITIES, modalities_of
from wissel.apis.table import APIS
from wissel.core.request import Request


def read(api: str, **members: Any) -> Request:
    return understand(APIS[api], "/", {}, read_body(json.dumps({"model": "auto", **members}).encode()))


def carried(part: Any) -> frozenset[str]:
    return read("chat", messages=[{"role": "user", "content": [part]}]).needs - {"text"}


@pytest.mark.parametrize(
    ("part", "needed"),
    [
        ({"type": "image_url", "image_url": {"url": "u"}}, {"image"}),
        ({"type": "image_embeds", "image_embeds": "AAAA"}, {"image"}),
        ({"type": "input_image", "file_id": "f"}, {"image"}),
        ({"type": "video_url", "video_url": {"url": "u"}}, {"video"}),
        ({"type": "input_video", "input_video": {}}, {"video"}),
        ({"type": "audio_url", "audio_url": {"url": "u"}}, {"audio"}),
        ({"type": "input_audio", "input_audio": {}}, {"audio"}),
        ({"type": "document", "source": {}}, {"file"}),
        ({"image_url": {"url": "u"}}, {"image"}),
        ({"video_url": {"url": "u"}}, {"video"}),
        ({"audio_url": "u", "uuid": "x"}, {"audio"}),
        ({"image": "https://example.com/cat.jpg", "text": "a cat"}, {"image"}),
        ({"type": "text", "text": "a", "image_url": {"url": "u"}}, {"image"}),
        ({"type": None, "video": ["u"]}, {"video"}),
        ({"text": "a"}, set()),
        ({"type": "text", "text": "a", "image_url": None}, set()),
        ({"type": "thinking", "thinking": "a"}, set()),
        ({"type": "tool_use", "name": "f", "input": {"type": "image", "image_url": "u"}}, set()),
        ({"type": "server_tool_use", "name": "f"}, set()),
        ({"type": "web_search_tool_result", "content": []}, set()),
        ({"type": "tool_result", "content": [{"type": "image", "source": {}}]}, {"image"}),
        ({"type": "tool_result", "content": [{"type": "tool_result", "content": [{"video_url": "u"}]}]}, {"video"}),
        ({"type": "hologram", "hologram": {}}, {'parts of the type "hologram"'}),
        ({"hologram": {}}, {"a part without a type"}),
        ({}, {"a part without a type"}),
        ("a string", set()),
        (7, set()),
    ],
)  # fmt: skip
def test_what_a_part_carries(part, needed):
    assert carried(part) == needed


@pytest.mark.parametrize(
    ("item", "needed"),
    [
        ({"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "u"}}, {"image"}),
        ({"type": "computer_call_output", "output": {"type": "input_image", "image_url": "u"}}, {"image"}),
        ({"type": "function_call_output", "output": [{"type": "input_file", "file_id": "f"}]}, {"file"}),
        ({"type": "image_generation_call", "result": "AAAA"}, {"image"}),
        ({"type": "message", "content": [{"type": "input_image"}]}, {"image"}),
        ({"content": [{"type": "input_image"}]}, {"image"}),
        ({"image_url": "u"}, {"image"}),
        ({"id": "msg_1"}, set()),
        ({"type": "reasoning", "content": [{"type": "reasoning_text", "text": "a"}]}, set()),
        ({"type": "function_call", "arguments": '{"type": "image"}'}, set()),
        ({"type": "something_new", "image_url": "u"}, set()),
        ({"role": "user", "content": [{"type": "input_video"}]}, {"video"}),
    ],
)
def test_what_an_item_of_a_response_carries(item, needed):
    assert read("responses", input=[item]).needs - {"text"} == needed


def test_pictures_of_an_answer_come_back_beside_its_content():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 100_000}}
    asked = read("chat", messages=[{"role": "assistant", "content": "a cat", "images": [image]}])

    assert asked.needs == {"text", "image"}
    assert asked.input_tokens < 2000


def test_of_many_kinds_that_nobody_knows_the_first_is_named():
    parts = [{"type": f"{'x' * 300}{at}"} for at in range(1000)]
    (named,) = read("chat", messages=[{"role": "user", "content": parts}]).needs - {"text"}

    assert named == f'parts of the type "{"x" * 199}…"'


def test_a_schema_that_speaks_of_images_carries_none():
    tools = [{"type": "image_generation"}, {"name": "f", "input_schema": {"properties": {"type": "image"}}}]

    assert read("chat", messages=[], tools=tools).needs == {"text"}


KINDS = {
    "image": "image image_url image_file image_embeds image_pil input_image output_image computer_screenshot"
    " image_generation_call",
    "audio": "audio audio_url audio_embeds input_audio output_audio",
    "video": "video video_url video_embeds input_video",
    "file": "file file_url input_file document document_url container_upload",
}
WORDS = "text input_text output_text refusal summary_text reasoning_text"
SHOWN = "thinking redacted_thinking reasoning encrypted_content compaction reference"


def test_every_kind_of_part_that_a_provider_documents_has_its_modality():
    needed = {kind: carried({"type": kind}) for kinds in KINDS.values() for kind in kinds.split()}

    assert needed == {kind: {modality} for modality, kinds in KINDS.items() for kind in kinds.split()}
    assert set(needed) == set(MODALITIES)


@pytest.mark.parametrize("kind", [*WORDS.split(), *SHOWN.split(), "tool_use", "tool_result", "mcp_call", "x_error"])
def test_words_and_structures_need_nothing_but_text(kind: str):
    assert carried({"type": kind, "text": "a"}) == set()


ENDINGS = ["plain_text", "tool_use", "mcp_call", "tool_result", "shell_output", "file_reference", "a_block", "an_error"]


@pytest.mark.parametrize("kind", ENDINGS)
def test_a_structure_is_known_by_how_its_kind_ends(kind: str):
    assert carried({"type": kind}) == set()


def test_words_that_bring_data_beside_them_need_what_it_is():
    data = {"text": "a", "image_url": {"url": "https://a/b.png"}}
    assert [modalities_of({"type": kind, **data}) for kind in WORDS.split()] == [{"image"}] * len(WORDS.split())
    assert modalities_of({"type": "text", "image_url": {"url": "https://a/b.png"}}) == frozenset()
