"""JSON in windows: the same value as the strict reader of the standard library, or none."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from json_values import json_values
from wissel.apis import windows
from wissel.apis.windows import WINDOW, LongText, read_json, whole
from wissel.core.bounds import Bounds
from wissel.errors import UnreadableError

ANY = Bounds(depth=200)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("twice")
    return found


def no_constant(name: str) -> Any:
    raise ValueError(name)


def strictly(data: bytes) -> Any:
    """The second reader, which shares nothing with the first but the scanner."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode()
    return json.loads(text, object_pairs_hook=once, parse_constant=no_constant)


def agree(one: Any, other: Any) -> bool:
    """Whether a value is the other, in which a long text is its beginning and its end."""
    match one, other:
        case str(), LongText():
            if not other.omitted:
                return one == other
            return any(one.startswith(other[:at]) and one.endswith(other[at:]) for at in range(len(other) + 1))
        case dict(), dict():
            return list(one) == list(other) and all(map(agree, one.values(), other.values()))
        case list(), list():
            return len(one) == len(other) and all(map(agree, one, other))
        case _:
            return type(one) is type(other) and (one == other or one != one)  # noqa: PLR0124 - a number may be none


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is one of many windows."""
    monkeypatch.setattr(windows, "WINDOW", 64)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """JSON, and what is nearly JSON."""
    text = json.dumps(draw(json_values), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    data = bytearray(text.encode("utf-8", "replace"))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b'"', b"\\", b"}", b"]", b",", b"9" * 70, b" " * 99])
        )
    return bytes(data)


@pytest.mark.usefixtures("narrow")
@settings(max_examples=400)
@given(texts())
@example(b'{"a": 1}, "b": {"c": 2, "d": "' + b"x" * 99 + b'"}')
@example(b'["' + b"\\ud83d\\ude00" * 30 + b'"]')
@example(b'["' + b"\\\\" * 60 + b'", 1, 2]')
@example(b"[" + b"1.5e+10," * 20 + b"1]")
@example(b'"' + b"\\u001f" * 9 + b"\xf0\x90\x80\x80" + b"9" * 140 + b'"')
def test_there_are_never_two_readings(data: bytes):
    try:
        right: Any = strictly(data)
    except (ValueError, RecursionError):
        right = ValueError
    try:
        found: Any = whole(read_json(data, ANY))
    except UnreadableError as error:
        # Where a name or a number is longer than a window, this reader has a bound that the other has not.
        found = right if "longer than" in str(error) or b"9" * 40 in data else ValueError

    assert found is right if ValueError in (found, right) else agree(right, found)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("before", range(14))
@pytest.mark.parametrize("times", [6, 60])
def test_a_window_may_end_anywhere_in_an_escape_of_two_halves(before: int, times: int):
    data = b'"' + b"a" * before + b"\\ud83d\\ude00" * times + b'"'
    found: Any = whole(read_json(data, ANY))

    assert agree(json.loads(data), found)
    assert (found.encode().decode(), getattr(found, "omitted", 0) > 0) == (found, times == 60)


def test_a_long_text_is_its_beginning_and_its_end():
    data = json.dumps(["begin" + "é" * 10 * WINDOW + "end"]).encode()
    [found] = whole(read_json(data, ANY))

    assert (found[:6], found[-4:], isinstance(found, LongText)) == ("beginé", "éend", True)
    assert found.omitted + len(found.encode("unicode_escape").replace(b"\\xe9", b"\\u00e9")) == len(data) - 4


FEW = 25_000
"""Values, for a bound that is soon met; it has to hold more than ten thousand messages."""


def test_reading_pauses_between_windows():
    data = b"[" + b'{"a": "' + b"x" * 100 + b'"},' * 1 + b"1," * (8 * WINDOW) + b"1]"
    pauses = sum(1 for _ in read_json(data, ANY))

    assert pauses >= 16


@pytest.mark.parametrize(
    ("data", "bound"),
    [
        (b"[" * 66 + b"]" * 66, "depth"),
        (b'{"a":' * 66 + b"1" + b"}" * 66, "depth"),
        (b"[" + b"1," * FEW + b"1]", "values"),
        (b"[" + b"{}," * FEW + b"{}]", "values"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(FEW + 1)) + b"}", "values"),
        (b'{"messages": [' + b'{"a":1},' * 10_000 + b"{}]}", "messages"),
    ],
)
def test_a_bound_is_named(data: bytes, bound: str):
    with pytest.raises(UnreadableError, match=f"listen.bounds.{bound}"):
        whole(read_json(data, Bounds(values=FEW)))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'["' + b"x" * 200, "unterminated string starting at byte"),
        (b'["' + b"x" * 200 + b"\\q" + b'"]', r"invalid \\escape at byte 202$"),
        (b"[" + b"1," * 100 + b"x]", "expecting value at byte 201"),
    ],
)
def test_what_is_no_json_behind_a_window_is_told_with_its_place(data: bytes, why: str):
    with pytest.raises(UnreadableError, match=f"^the body is not JSON: {why}"):
        whole(read_json(data, ANY))
