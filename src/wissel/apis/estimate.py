"""What a request's input will be billed for, as far as its body tells.

    texts, structures and media -> tokens

All that a model is shown is paid for: its tools and what they are called with as
much as what was said, and media by tables of their own. Nobody here has the
model's tokenizer, so these are estimates to reserve by, and the model's own
count puts them right. Of media there are two: what one may come to, and the
least, since a model that could serve must not be passed over for a guess.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, cast

from wissel.apis.windows import LongText, Slices
from wissel.core.request import BYTES_PER_TOKEN, Modality, estimate_tokens

UNBILLED: Final = frozenset(
    {"model", "metadata", "user", "safety_identifier", "prompt_cache_key", "stream_options", "logit_bias", "stop"}
    | {"thinking", "reasoning", "previous_response_id", "stop_sequences", "include", "modalities", "provider"}
)
"""Members of a body that no model is shown; scalars are not either."""

_SYNTAX_BYTES: Final = 4
"""What a name or a value takes beside its text: marks are short tokens."""
_BREATH: Final = 2048
"""Values weighed between two pauses."""
_NAMES: Final = 64 * 1024
"""Of one object that are measured between two pauses."""
_CHARACTERS_TO_A_VALUE: Final = 128
"""So many of a text are as much work as one value."""


@dataclass(frozen=True, slots=True)
class Medium:
    """What a piece of one modality comes to."""

    typical: int
    """Tokens, where its size is not known: providers differ by a factor of ten."""
    least: int
    bytes_per_token: int | None
    """Of what is sent within the body, in base64; None where tokens do not follow from size."""


MEDIA: Final[Mapping[Modality, Medium]] = {
    # OpenAI's high detail takes up to 1,445 tokens, Anthropic's largest 1,600; low detail 85, Gemini's tiles 258.
    "image": Medium(1_600, 64, None),
    # 10 to 32 tokens a second, of speech in mp3 at 64 kbit/s.
    "audio": Medium(500, 0, 333),
    # About 300 tokens a second, at 1 Mbit/s.
    "video": Medium(10_000, 0, 533),
    # A page is 1,500 to 3,000 tokens; a file of plain text has as many as its text.
    "file": Medium(3_000, 0, BYTES_PER_TOKEN),
}

_PACKED: Final = ("JVBERi0", "UEsDB")
"""How PDF and office files begin in base64: of their bytes only some are text."""
_BYTES_OF_PACKED: Final = 16
_MOST_MEMBERS: Final = 32
"""Of a part, and of each object in it, that are looked at for its data."""


def text_tokens(text: str) -> int:
    """Of a text, whose middle may be missing: what is missing is taken to be like the rest."""
    found = estimate_tokens(text)
    if isinstance(text, LongText):
        found += text.omitted * found // (size_of_text(text) - text.omitted)
    return found


def size_of_text(text: str) -> int:
    """Bytes."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size + text.omitted if isinstance(text, LongText) else size


def weigh(value: object) -> Slices[tuple[int, int]]:
    """Tokens of a structure that a model is shown as JSON; and how many values it holds, which is the work it was."""
    size, done, since, left = 0, 0, 0, [value]
    while left:
        match each := left.pop():
            case str():
                size += size_of_text(each) + _SYNTAX_BYTES
                since += len(each) // _CHARACTERS_TO_A_VALUE
            case dict():
                members = cast("dict[str, object]", each)
                size += _SYNTAX_BYTES * len(members)
                left += members.values()
                names = iter(members)
                for start in range(0, len(members), _NAMES):
                    if start:
                        yield
                    size += sum(map(len, islice(names, _NAMES)))
            case list():
                left += cast("list[object]", each)
                size += _SYNTAX_BYTES
            case _:
                size += _SYNTAX_BYTES
        done += 1
        since += 1
        if since >= _BREATH:
            since = 0
            yield
    return -(-size // BYTES_PER_TOKEN), done


def weigh_medium(modality: Modality, part: Mapping[str, object]) -> Slices[tuple[int, int]]:
    """As `weigh`, of one piece: its data by what it is, and what is said about it as any structure."""
    medium = MEDIA[modality]
    data = _data_of(part)
    size = size_of_text(data)
    tokens = medium.typical
    if medium.bytes_per_token is not None:
        is_packed = data.rpartition("base64,")[2][:16].startswith(_PACKED)
        tokens = max(tokens, size // (_BYTES_OF_PACKED if is_packed else medium.bytes_per_token))
    beside, values = yield from weigh(part)
    return tokens + beside - size // BYTES_PER_TOKEN, values


def _data_of(part: Mapping[str, object]) -> str:
    """The longest text of the part or of an object in it: its data, or where that is."""
    outer = list(islice(part.values(), _MOST_MEMBERS))
    inner = [text for each in outer if isinstance(each, dict) for text in _some(cast("dict[str, object]", each))]
    return max((each for each in (*outer, *inner) if isinstance(each, str)), key=_length, default="")


def _length(text: str) -> int:
    # Not in bytes, which takes time with each text.
    return len(text) + text.omitted if isinstance(text, LongText) else len(text)


def _some(members: Mapping[str, object]) -> Iterator[object]:
    return islice(members.values(), _MOST_MEMBERS)
