"""What kinds of content parts there are, over all APIs: words, media, and structures that a model is shown.

No two APIs mean different things by the type of a part. What is not here is
nothing that a model is known to read: no model is able to serve it.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from wissel.apis.shapes import Json
from wissel.core.quoting import quoted
from wissel.core.request import Modality

MODALITIES: Final[Mapping[str, Modality]] = {
    "image": "image",
    "image_url": "image",
    "image_file": "image",
    "image_embeds": "image",
    "image_pil": "image",
    "input_image": "image",
    "output_image": "image",
    "computer_screenshot": "image",
    "image_generation_call": "image",
    "audio": "audio",
    "audio_url": "audio",
    "audio_embeds": "audio",
    "input_audio": "audio",
    "output_audio": "audio",
    "video": "video",
    "video_url": "video",
    "video_embeds": "video",
    "input_video": "video",
    "file": "file",
    "file_url": "file",
    "input_file": "file",
    "document": "file",
    "document_url": "file",
    "container_upload": "file",
}
"""By a part's type; where it has none, by the member that holds the data, as vLLM and Jina read it."""

_WORDS: Final = frozenset({"text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text"})
_OF_WORDS: Final = 2
"""The members of a part that is its words and nothing else."""
_NOTHING: Final[frozenset[str]] = frozenset()
_SHOWN: Final = frozenset(
    {"thinking", "redacted_thinking", "reasoning", "encrypted_content", "compaction", "reference"}
)
_SHOWN_ENDINGS: Final = ("_text", "_use", "_call", "_result", "_output", "_reference", "_block", "_error")
"""Of structures: calls of tools and what they gave, by whatever tool."""


def modalities_of(part: Json) -> frozenset[str]:
    """What a part carries: modalities, none for words and structures; or, in quotes, what nobody knows."""
    kind = part.get("type")
    if not isinstance(kind, str) or not kind:
        found = frozenset(_by_members(part))
        return found if found or isinstance(part.get("text"), str) else frozenset({"a part without a type"})
    if modality := MODALITIES.get(kind):
        return frozenset({modality})
    if kind in _WORDS:
        # Some servers look for the data, whatever the type says.
        return frozenset(_by_members(part)) if len(part) > _OF_WORDS else _NOTHING
    if kind in _SHOWN or kind.endswith(_SHOWN_ENDINGS):
        return frozenset()
    return frozenset({f"parts of the type {quoted(kind)}"})


def _by_members(part: Json) -> Iterator[Modality]:
    return (modality for name, modality in MODALITIES.items() if part.get(name))
