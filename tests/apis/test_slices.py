"""No body, whatever its caller made it of, holds the others up for longer than a few windows of JSON take."""

import gc
import json
from collections.abc import Callable, Iterator
from time import thread_time

import pytest

from wissel.apis.body import read_body
from wissel.apis.forms import models_in
from wissel.apis.requests import understand
from wissel.apis.table import APIS
from wissel.apis.windows import WINDOW, Slices, read_json
from wissel.core.bounds import Bounds
from wissel.errors import UnreadableError

BOUNDS = Bounds()
MOST_WINDOWS = 16

JSON, LINES, PAIRS = "application/json", "application/jsonl", "application/x-www-form-urlencoded"
FORM = "multipart/form-data; boundary=b"


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def chat(members: str) -> Slices[object]:
    return read_call(f'{{"model": "m", {members}}}'.encode())


def read_call(data: bytes) -> Slices[object]:
    body = yield from read_body(data, BOUNDS)
    return (yield from understand(APIS["chat"], "/v1/chat/completions", {}, body, BOUNDS))


def a_form(head: bytes, times: int) -> bytes:
    part = b"--b\r\ncontent-disposition: form-data; name=x" + head + b"\r\n\r\n1\r\n"
    return part * times + b"--b--"


def one_message(*texts: str) -> str:
    parts = [{"type": "text", "text": text} for text in texts]
    return f'"messages": [{{"content": {json.dumps(parts, ensure_ascii=False)}}}]'


NUMBERED = ",".join(f'"{number:x}": 1' for number in range(3000))

HARD: dict[str, Callable[[], Slices[object]]] = {
    "an object that has its last name twice": lambda: read_json(f'{{{NUMBERED}, "bb7": 1}}'.encode(), BOUNDS),
    "many objects that could name a model": lambda: models_in(
        b"[" + b'{"a": 1},' * 100_000 + b'{"model": "m"}]', JSON, BOUNDS
    ),
    "names of fields in nothing but escapes": lambda: models_in(b"&".join([b"%41" * 2700] * 200), PAIRS, BOUNDS),
    "lines that are nearly a window each": lambda: models_in(
        (b'{"a": [' + b"1," * (WINDOW // 2 - 50) + b"1]}\n") * 64, LINES, BOUNDS
    ),
    "parts with many parameters": lambda: models_in(a_form(b";a=b" * 2000, 64), FORM, BOUNDS),
    "members with long names": lambda: chat(
        '"messages": [], ' + ",".join(f'"{number}{"Ж" * 15_000}": 1' for number in range(900))
    ),
    "parts whose texts are wide together": lambda: chat(one_message(*["x" * 31_000] * 400, "😀")),
    "an object of many long texts": lambda: chat(
        f'"messages": [], "x": {json.dumps(["中" * 10_000] * 900, ensure_ascii=False)}'
    ),
}


def longest_slice(make: Callable[[], Slices[object]]) -> float:
    longest, work, is_over = 0.0, make(), False
    while not is_over:
        began = thread_time()
        try:
            next(work)
        except (StopIteration, UnreadableError):
            is_over = True
        longest = max(longest, thread_time() - began)
    return longest


def of_one_window() -> float:
    text = f"[{'1,' * (WINDOW // 2 - 2)}1]"
    began = thread_time()
    json.loads(text)
    return thread_time() - began


@pytest.mark.parametrize("what", HARD)
def test_a_slice_takes_no_longer_than_a_few_windows(what: str):
    windows = min(of_one_window() for _ in range(5))

    assert min(longest_slice(HARD[what]) for _ in range(3)) < MOST_WINDOWS * windows
