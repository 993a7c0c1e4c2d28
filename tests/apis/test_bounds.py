"""Every bound of `listen.bounds`, in every reader that meets it: the last that is allowed passes, one more is told."""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from reading import models_in, read_body, understand
from wissel.apis.table import APIS
from wissel.core.bounds import Bounds
from wissel.errors import UnreadableError

FEW = Bounds(model_name=8, messages=5, parts=6, members=7, values=60, depth=6, fields=4, lines=3)
FORM, PAIRS, LINES = "multipart/form-data; boundary=edge", "application/x-www-form-urlencoded", "application/jsonl"

LONG = "x" * 70_000


def call(api: str, **members: Any) -> None:
    path = APIS[api].paths[0]
    body = read_body(json.dumps({"model": "m", **members}).encode(), FEW)
    understand(APIS[api], path, {}, body, FEW)


def form(count: int, name: str = "x", value: str = "1") -> bytes:
    part = f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    return (part * count + "--edge--\r\n").encode()


def nested(count: int) -> Any:
    found: Any = 1
    for _ in range(count):
        found = [found]
    return found


def nested_long(count: int) -> Any:
    """Each array longer than a window of its own."""
    found: Any = 1
    for _ in range(count):
        found = [LONG, found]
    return found


SAID = {"role": "user", "content": "hi"}
PART = {"type": "text", "text": "hi"}

READERS: list[tuple[str, int, Callable[[int], object]]] = [
    ("model_name", 8, lambda n: read_body(json.dumps({"model": "m" * n}).encode(), FEW)),
    ("model_name", 8 * 9, lambda n: models_in(b"model=" + b"m" * n, PAIRS, FEW)),
    ("model_name", 8 * 4, lambda n: models_in(form(1, "model", "m" * n), FORM, FEW)),
    ("messages", 5, lambda n: call("chat", messages=[SAID] * n)),
    ("messages", 5, lambda n: call("messages", messages=[SAID] * n)),
    ("messages", 5, lambda n: call("responses", input=[SAID] * n)),
    ("messages", 5, lambda n: call("completions", prompt=["a"] * n)),
    ("messages", 5, lambda n: call("embeddings", input=["a"] * n)),
    ("messages", 5, lambda n: call("chat", messages=[{"role": "user", "content": LONG}] * n)),
    ("parts", 6, lambda n: call("chat", messages=[{"role": "user", "content": [PART] * n}])),
    ("parts", 6, lambda n: call("messages", messages=[{"role": "user", "content": [PART] * n}])),
    ("members", 7, lambda n: read_body(json.dumps({"model": "m", **dict.fromkeys("abcdefgh"[: n - 1])}).encode(), FEW)),
    ("depth", 6, lambda n: call("chat", messages=[], x=nested(n - 1))),
    ("depth", 6, lambda n: call("chat", messages=[], x=nested(n - 1), y=LONG)),
    ("depth", 6, lambda n: call("chat", messages=[], x=nested_long(n - 1))),
    ("fields", 4, lambda n: models_in(b"&".join([b"x=1"] * n), PAIRS, FEW)),
    ("fields", 4, lambda n: models_in(form(n), FORM, FEW)),
    ("fields", 4, lambda n: models_in(json.dumps([{"model": f"m{at}"} for at in range(n)]).encode(), LINES, FEW)),
    ("lines", 3, lambda n: models_in(b'{"model":"m"}\n' * n, LINES, FEW)),
]  # fmt: skip


@pytest.mark.parametrize(("bound", "most", "read"), READERS, ids=range(len(READERS)))
def test_the_last_that_a_bound_allows_is_read_and_one_more_is_told_by_its_name(
    bound: str, most: int, read: Callable[[int], object]
):
    read(most)

    with pytest.raises(UnreadableError, match=rf'more than {getattr(FEW, bound)} .*"listen\.bounds\.{bound}"$'):
        read(most + 1)


def test_values_are_counted_wherever_they_stand():
    for value in ([0] * 61, {str(at): 0 for at in range(61)}, [[0]] * 31, [LONG, *[0] * 60]):
        with pytest.raises(UnreadableError, match=r"listen\.bounds\.values"):
            call("chat", messages=[], x=value)


def test_every_bound_on_what_is_read_is_met():
    assert {bound for bound, _, _ in READERS} | {"values", "uploads"} == {each.name for each in fields(Bounds)}
