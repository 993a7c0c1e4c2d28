"""How providers tell what an answer came to: one table of conventions, and one reader for all of them.

    a `usage` object, or the pieces of one that a stream tells -> Usage

Who serves an API is not always who invented it: proxies add their own members to
another's, and servers that speak OpenAI's format count the cache or the
reasoning as their own format does. So what is told decides which row speaks, and
not which API was called. No token is counted twice: a row says whether what was
cached is some of the input or stands beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from wissel.apis.shapes import Json, object_of
from wissel.core.outcome import Usage

Way = tuple[str, ...]
"""The members on the way to a count, in a `usage` object."""

MOST: Final = 1_000_000_000
"""A larger number counts for nothing: no model reads or writes so much at once."""


_READ: Final[Way] = ("cache_read_input_tokens",)
_WRITTEN: Final[Way] = ("cache_creation_input_tokens",)


@dataclass(frozen=True, slots=True)
class Convention:
    """One way of telling usage. Where several ways lead to one count they say the same, and the largest stands."""

    input: Way
    output: Way
    total: Way = ("total_tokens",)
    """What it is above input and output is reasoning that the output does not hold."""
    cached: tuple[Way, ...] = ()
    """Of the input, read from a cache."""
    written: tuple[Way, ...] = ()
    """Of the input, written into a cache; paid as input."""
    reasoning: tuple[Way, ...] = ()
    beside: bool = False
    """Whether what is cached and written stands beside the input, and not within it."""
    marks: tuple[Way, ...] = ()
    """One of these must be told, where another row has the same input."""

    @property
    def ways(self) -> tuple[Way, ...]:
        return (self.input, self.output, self.total, *self.cached, *self.written, *self.reasoning)


CONVENTIONS: Final = (
    # OpenAI's chat, completions and embeddings, and whoever speaks them.
    Convention(
        input=("prompt_tokens",),
        output=("completion_tokens",),
        cached=(
            ("prompt_tokens_details", "cached_tokens"),  # OpenAI, Azure, vLLM, OpenRouter, Gemini's endpoint, xAI, Groq
            ("prompt_token_details", "cached_tokens"),  # Mistral
            ("num_cached_tokens",),  # Mistral
            ("cached_tokens",),  # Moonshot, Together
            ("prompt_cache_hit_tokens",),  # DeepSeek, whose prompt is hits and misses
            _READ,  # LiteLLM before Anthropic's models: within the prompt, other than there
        ),
        written=(
            _WRITTEN,
            ("prompt_tokens_details", "cache_write_tokens"),
            ("prompt_tokens_details", "cache_creation_tokens"),
        ),
        reasoning=(("completion_tokens_details", "reasoning_tokens"), ("reasoning_tokens",)),
    ),
    # OpenAI's responses, and proxies that speak them before Anthropic's models.
    Convention(
        input=("input_tokens",),
        output=("output_tokens",),
        cached=(("input_tokens_details", "cached_tokens"), _READ),
        written=(_WRITTEN, ("input_tokens_details", "cache_write_tokens")),
        reasoning=(("output_tokens_details", "reasoning_tokens"),),
        marks=(("input_tokens_details", "cached_tokens"), ("total_tokens",)),
    ),
    # Anthropic's messages.
    Convention(
        input=("input_tokens",),
        output=("output_tokens",),
        cached=(_READ,),
        written=(_WRITTEN,),
        reasoning=(("output_tokens_details", "thinking_tokens"),),
        beside=True,
    ),
    # Voyage and others that embed, and tell nothing but a total.
    Convention(input=("total_tokens",), output=()),
)
"""The first row whose counts are there speaks."""


class ToldUsage:
    """What was told so far, by member; streams send running totals, of which the largest stands.

    Unless one says that it has counted, where before it was guessed.
    """

    __slots__ = ("_rows", "_told")

    def __init__(self) -> None:
        self._rows: tuple[Convention, ...] = ()
        self._told: dict[Way, int] = {}

    def take(self, said: Json, rows: tuple[Convention, ...] = CONVENTIONS, *, has_counted: bool = False) -> None:
        """What an answer, or one of its events, tells."""
        for usage in _usages(said):
            self._rows = rows
            for way in {way for row in rows for way in row.ways}:
                value = _at(usage, way)
                if type(value) is int and 0 <= value <= MOST:
                    self._told[way] = value if has_counted and value else max(value, self._told.get(way, 0))

    @property
    def usage(self) -> Usage | None:
        """None where nothing was counted."""
        return next((self._read(row) for row in self._rows if self._is_told(row)), None)

    def _is_told(self, row: Convention) -> bool:
        marked = not row.marks or any(way in self._told for way in row.marks)
        return marked and bool(self._of(row.input) or self._of(row.output))

    def _read(self, row: Convention) -> Usage:
        read, wrote, total = self._of(row.input), self._of(row.output), self._of(row.total)
        cached, written, reasoned = (self._most(ways) for ways in (row.cached, row.written, row.reasoning))
        extra = cached + written
        # More than the whole is no part of it; and where Anthropic's members stand in another's usage, the total tells.
        if row.beside or extra > read or (_READ in self._told and total >= read + wrote + extra):
            read += extra
        hidden = max(0, total - read - wrote)
        if not hidden and reasoned > wrote:
            hidden = reasoned
        return Usage(read, wrote + hidden, cached, reasoned, written)

    def _of(self, way: Way) -> int:
        return self._told.get(way, 0)

    def _most(self, ways: tuple[Way, ...]) -> int:
        return max(map(self._of, ways), default=0)


def usage_in(said: Json) -> Usage | None:
    """What a whole answer tells."""
    told = ToldUsage()
    told.take(said)
    return told.usage


def _usages(said: Json) -> Iterator[Json]:
    """Where an answer, or an event of one, has its usage."""
    if (usage := object_of(said.get("usage"))) or (usage := object_of(object_of(said.get("x_groq")).get("usage"))):
        yield usage
    elif isinstance(choices := said.get("choices"), list):
        for choice in cast("list[object]", choices):
            # Moonshot's streams.
            if isinstance(choice, dict) and "usage" in choice:
                yield object_of(cast("Json", choice)["usage"])


def _at(usage: Json, way: Way) -> object:
    *outer, name = way or ("",)
    for step in outer:
        usage = object_of(usage.get(step))
    return usage.get(name)
