"""Where in a long text its question would stand.

    text -> its first words, its last words, and between two pastes what a person wrote -> windows

People ask in front of what they paste, or behind it. A window ends where its
paragraph ends, so that a one-line question is not read with the log under it;
and there are four at most, so a text of any length costs the same.
"""

import re
from collections.abc import Sequence

SHORT = 280
"""Bytes of UTF-8: a text up to this long is all question. About 64 tokens of English, 90 characters of Chinese."""

HEAD = 128
TAIL = 96
"""Bytes of the first and of the last window, about 30 and 22 tokens: people say more before what they paste."""

ASIDE = 96
MOST_ASIDES = 2
"""Bytes of a window between pastes, and how many there may be: the last ones count."""

PROSE = 0.85
"""Letters and spaces in what a person writes; logs, tables and code have fewer."""

LEAST_WORDS = 3

_PARAGRAPH = re.compile(r"\n\s*\n")

Span = tuple[int, int]
"""Where a window begins and ends, in characters."""


def windows_of(text: str) -> Sequence[Span]:
    """In the text's order; none for a short text."""
    if len(text) <= SHORT and len(text.encode("utf-8", "replace")) <= SHORT:
        return ()
    paragraphs = _paragraphs(text)
    first, last = paragraphs[0], paragraphs[-1]
    head = (first[0], _reach(text, first, HEAD))
    tail = (max(last[0], _reach_back(text, last, TAIL)), last[1])
    between = [(begin, _reach(text, (begin, end), ASIDE)) for begin, end in paragraphs[1:-1] if _human(text[begin:end])]
    return (head, *between[-MOST_ASIDES:], tail)


def _paragraphs(text: str) -> list[Span]:
    """Parted by empty lines, without the space around them; at least one."""
    found: list[Span] = []
    begin = 0
    for end, following in [*((gap.start(), gap.end()) for gap in _PARAGRAPH.finditer(text)), (len(text), len(text))]:
        inner = text[begin:end]
        if inner.strip():
            found.append((begin + len(inner) - len(inner.lstrip()), begin + len(inner.rstrip())))
        begin = following
    return found or [(0, len(text))]


def _reach(text: str, span: Span, size: int) -> int:
    """How far so many bytes from the beginning of `span` reach, to the end of a word where there is one."""
    begin, end = span
    piece = text[begin : min(end, begin + size)]
    reached = begin + len(piece.encode("utf-8", "replace")[:size].decode("utf-8", "ignore"))
    if reached >= end:
        return end
    space = text.rfind(" ", begin, reached + 1)
    return space if space > begin + (reached - begin) // 2 else reached


def _reach_back(text: str, span: Span, size: int) -> int:
    """The same from the end of `span`."""
    begin, end = span
    piece = text[max(begin, end - size) : end]
    reached = end - len(piece.encode("utf-8", "replace")[-size:].decode("utf-8", "ignore"))
    if reached <= begin:
        return begin
    space = text.find(" ", reached - 1, end)
    return space + 1 if 0 <= space < reached + (end - reached) // 2 else reached


def _human(paragraph: str) -> bool:
    """Whether it reads like something said: short, in words, and no line of a list or a program."""
    if len(paragraph.encode("utf-8", "replace")) > 2 * ASIDE or paragraph.count("\n") > 2:
        return False
    letters = sum(sign.isalpha() or sign.isspace() or sign in ",.'?!-" or not sign.isascii() for sign in paragraph)
    wordy = len(paragraph.split()) >= LEAST_WORDS or not paragraph.isascii()
    return wordy and letters >= PROSE * len(paragraph)
