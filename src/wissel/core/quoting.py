"""What a caller wrote, as it may be repeated: the beginning of it, in quotes, as text that every encoding can carry."""

from typing import Final

MOST_QUOTED: Final = 200
"""Characters of what a caller wrote that are repeated anywhere: in an answer, a log line, the audit trail."""


def quoted(text: str) -> str:
    """What a caller wrote, as a sentence may repeat it."""
    return f'"{cut(text)}"'


def cut(text: str) -> str:
    """The beginning of what a caller wrote, as text that can be written anywhere."""
    short = text if len(text) <= MOST_QUOTED else text[: MOST_QUOTED - 1] + "…"
    return short if short.isprintable() else short.encode("utf-8", "backslashreplace").decode()


class Quoted(str):
    """A text that was written in quotes, and so is no number where any value may stand."""

    __slots__ = ()
