"""In which script a text is written: by the blocks of Unicode, one row a script."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

_BLOCKS: Final = (
    (0x0041, 0x024F, "latin"),
    (0x0250, 0x02AF, "latin"),
    (0x0370, 0x03FF, "greek"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0530, 0x058F, "armenian"),
    (0x0590, 0x05FF, "hebrew"),
    (0x0600, 0x077F, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0980, 0x09FF, "bengali"),
    (0x0A00, 0x0A7F, "gurmukhi"),
    (0x0A80, 0x0AFF, "gujarati"),
    (0x0B80, 0x0BFF, "tamil"),
    (0x0C00, 0x0C7F, "telugu"),
    (0x0C80, 0x0CFF, "kannada"),
    (0x0D00, 0x0D7F, "malayalam"),
    (0x0D80, 0x0DFF, "sinhala"),
    (0x0E00, 0x0E7F, "thai"),
    (0x0E80, 0x0EFF, "lao"),
    (0x0F00, 0x0FFF, "tibetan"),
    (0x1000, 0x109F, "burmese"),
    (0x10A0, 0x10FF, "georgian"),
    (0x1100, 0x11FF, "hangul"),
    (0x1200, 0x139F, "ethiopic"),
    (0x1780, 0x17FF, "khmer"),
    (0x1E00, 0x1EFF, "latin"),
    (0x1F00, 0x1FFF, "greek"),
    (0x3040, 0x30FF, "kana"),
    (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"),
    (0xAC00, 0xD7AF, "hangul"),
    (0xF900, 0xFAFF, "han"),
    (0xFB50, 0xFDFF, "arabic"),
    (0xFE70, 0xFEFF, "arabic"),
    (0xFF66, 0xFF9D, "kana"),
    (0x20000, 0x3134F, "han"),
)

OTHER: Final = "other"
"""A script without a row."""

NONE: Final = "none"
"""A text without letters."""

SCRIPTS: Final = tuple(dict.fromkeys([*(name for *_, name in _BLOCKS), OTHER, NONE]))

_WRITTEN_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "ar": ("arabic",),
    "ja": ("kana", "han"),
    "ko": ("hangul", "han"),
    "ru": ("cyrillic",),
    "th": ("thai",),
    "zh": ("han",),
    "zh-TW": ("han",),
}
"""Languages by their scripts; those without a row are written in Latin letters."""

LOOKED_AT: Final = 400
"""Letters at each end of a text that decide."""


def scripts_of(languages: Collection[str]) -> frozenset[str]:
    """Those that texts in these languages are made of; Latin letters and Greek signs stand in texts of all."""
    return frozenset({"latin", *(script for language in languages for script in _WRITTEN_IN.get(language, ()))})


def script_of(text: str) -> str:
    """The script of most of its letters; kana makes a text Japanese however much of it is han."""
    counts = _counts(text)
    if not counts:
        return NONE
    return "kana" if counts["kana"] * 5 >= counts["han"] > 0 else max(counts, key=lambda name: counts[name])


def share_outside(text: str, scripts: Collection[str]) -> float:
    """Of its letters, those of other scripts than these; 0 without letters."""
    counts = _counts(text)
    return sum(count for name, count in counts.items() if name not in scripts) / max(1, counts.total())


def _counts(text: str) -> Counter[str]:
    if len(text) > 2 * LOOKED_AT:
        text = text[:LOOKED_AT] + text[-LOOKED_AT:]
    if text.isascii():
        latin = sum(map(str.isalpha, text))
        return Counter({"latin": latin} if latin else {})
    return Counter(_script(ord(sign)) for sign in text if sign.isalpha())


def _script(code: int) -> str:
    return next((name for first, last, name in _BLOCKS if first <= code <= last), OTHER)
