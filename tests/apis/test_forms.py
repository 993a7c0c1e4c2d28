"""What a body names, read as any server could read it, or not at all."""

import asyncio
import re
from contextlib import suppress
from email.parser import BytesParser
from email.policy import compat32
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import example, given
from hypothesis import strategies as st
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import File, FormParser

from reading import models_in, named_in_pairs
from wissel.errors import UnreadableError

TYPE = "multipart/form-data; boundary=edge"


def part(name: str = "model", value: bytes = b"whisper-1", *, after: bytes = b"", disposition: str = "") -> bytes:
    said = disposition or f'form-data; name="{name}"'
    return f"Content-Disposition: {said}\r\n".encode() + after + b"\r\n" + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(b"--edge\r\n" + each for each in parts) + b"--edge--\r\n"


FILE = part(
    disposition='form-data; name="file"; filename="a \\"b\\".mp3"', value=b"\0\r\n\xff--edg", after=b"X-A: 1\r\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_is_read_whatever_it_is_called(encoding: str):
    assert models_in('{"model": "gpt-4o"}'.encode(encoding), "text/plain") == ("gpt-4o",)


def test_a_file_that_is_no_json_names_nothing():
    assert models_in(b"\xff\xfb\x90\x00ID3 model", "audio/mpeg") == ()


@pytest.mark.parametrize(
    ("body", "models"),
    [
        (form(part(), FILE), ("whisper-1",)),
        (form(FILE, part(), part("language", b"nl")), ("whisper-1",)),
        (form(FILE), ()),
        (form(part("MODEL")), ("whisper-1",)),
        (form(part(" model ")), ("whisper-1",)),
        (form(part("model[]")), ("whisper-1",)),
        (form(part("mod%65l")), ("whisper-1",)),
        (form(part(disposition="form-data; name=model")), ("whisper-1",)),
        (form(part(disposition='Form-Data;name="mo\\del"; filename=x')), ("whisper-1",)),
        (form(part(), part(value=b"other")), ("whisper-1", "other")),
        (form(part(value=b" secret\n")), (" secret\n", "secret")),
        (form(part("x", b"model"), part(disposition='form-data; filename="model"; name="y"')), ()),
        (b"\r\n" + form(part()), ("whisper-1",)),
        (form(part()) + b"an epilogue\r\nof two lines", ("whisper-1",)),
        (form(part("session", b'{"type": "realtime", "model": "a"}')), ("a",)),
        (
            form(
                part("purpose", b"batch"),
                part(disposition='form-data; name="file"; filename="b"', value=b'{"body":{"model":"a"}}\n'),
            ),
            ("a",),
        ),
        (
            form(part(disposition='form-data; name="file"; filename="b.jsonl"', value=b'{"body":{"model":"a"}}\n')),
            ("a",),
        ),
    ],
)
def test_the_models_of_a_form(body: bytes, models: tuple[str, ...]):
    assert models_in(body, TYPE) == models


@pytest.mark.parametrize(
    ("content_type", "body", "why"),
    [
        ("multipart/form-data", form(part()), "the content-type should have one boundary"),
        ("multipart/form-data; boundary=edge; boundary=x", form(part()), "the content-type should have one boundary"),
        ("multipart/form-data; boundary=edge; boundary*=x", form(part()), "the content-type should have one boundary"),
        ("multipart/form-data; boundary=edge, text/plain", form(part()), "the content-type should have one boundary"),
        (TYPE, b"", "it should begin with the boundary"),
        (TYPE, b"before" + form(part()), "it should begin with the boundary"),
        (
            TYPE,
            form(part()).removesuffix(b"\r\n") + b"after",
            "nothing but a line's end should follow the last boundary, and no other boundary",
        ),
        (
            TYPE,
            form(part()) + b"--edge\r\n",
            "nothing but a line's end should follow the last boundary, and no other boundary",
        ),
        (
            TYPE,
            form(part()) + b"after\r\n" + form(part()),
            "nothing but a line's end should follow the last boundary, and no other boundary",
        ),
        (
            TYPE,
            form(part("session", b"{")),
            "the body is not JSON: expecting property name enclosed in double quotes at line 1, column 2",
        ),
        (TYPE, form(part("session", b'{"model": "a", "model": "b"}')), 'the body names "model" twice'),
        (TYPE, form(part("purpose", b"batch"), FILE), "the body is not JSON: expecting value at line 1, column 1"),
        ("application/json", '{"model": "a"}'.encode("utf-16"), "the body is not UTF-8: byte 0 cannot be decoded"),
        ("application/json", b'{"model": "a", "mod\\u0065l": "b"}', 'the body names "model" twice'),
        ("application/json", b'{"x": {"model": "a", "model": "b"}}', 'the body names "model" twice'),
        ("application/json", b'{"model": "a"} {}', "the body is not JSON: extra data at line 1, column 16"),
        ("application/json", b'{"model": "\xff"}', "the body is not UTF-8: byte 11 cannot be decoded"),
        (
            "application/jsonl",
            b'{"model": "a"}\n{"model": ',
            "the body is not JSON: expecting value at line 1, column 11",
        ),
        (
            TYPE,
            form(part()).removesuffix(b"--\r\n"),
            "each part should stand between lines of the boundary, ended by CRLF",
        ),
        (
            TYPE,
            form(part()).replace(b"\r\n", b"\n"),
            "each part should stand between lines of the boundary, ended by CRLF",
        ),
        (
            TYPE,
            form(part("x", b"a\n--edge\n" + part())),
            "each part should stand between lines of the boundary, ended by CRLF",
        ),
        (
            TYPE,
            form(part()).replace(b"--edge\r\n", b"--edge \r\n"),
            "each part should stand between lines of the boundary, ended by CRLF",
        ),
        (TYPE, form(b"no header\r\n\r\nx\r\n"), "a part has a header of more than one line, or none"),
        (TYPE, form(b"\r\nx\r\n"), "a part has a header of more than one line, or none"),
        (TYPE, form(part(after=b" folded: 1\r\n")), "a part has a header of more than one line, or none"),
        (
            TYPE,
            form(part(after=b"Content-Disposition: form-data; name=x\r\n")),
            "each part should have one content-disposition with one name",
        ),
        (TYPE, form(part(after=b"Content-Transfer-Encoding: base64\r\n")), "a part is encoded; send it as it is"),
        (
            TYPE,
            form(part(after=b"X: 1\nContent-Disposition: x\r\n")),
            "a part has a header of more than one line, or none",
        ),
        (
            TYPE,
            form(part(disposition='form-data; name="x"; name="model"')),
            "each part should have one content-disposition with one name",
        ),
        (
            TYPE,
            form(part(disposition="form-data; name*=utf-8''model")),
            "each part should have one content-disposition with one name",
        ),
        (
            TYPE,
            form(part(disposition="form-data; name=\"x\"; name*=utf-8''model")),
            "each part should have one content-disposition with one name",
        ),
        (TYPE, form(part(disposition='form-data; name="x')), "each part should be form-data with a name"),
        (TYPE, form(part(disposition="attachment; name=model")), "each part should be form-data with a name"),
        (TYPE, form(part(disposition="form-data")), "each part should be form-data with a name"),
        ("application/json", b'{"model": ', "the body is not JSON: expecting value at line 1, column 11"),
        (
            "application/json",
            b"[" * 100_000,
            'the body is nested too deeply: more than 64 levels; the bound is "listen.bounds.depth"',
        ),
    ],
)
def test_what_two_readers_could_take_apart_differently_is_refused(content_type: str, body: bytes, why: str):
    with pytest.raises(UnreadableError) as refused:
        models_in(body, content_type)

    assert str(refused.value).removeprefix("the form cannot be read: ") == why


def test_a_number_that_nobody_reads_is_refused():
    with pytest.raises(UnreadableError, match=r"^the body is not usable JSON: "):
        models_in(b'{"model": "a", "n": ' + b"9" * 5000 + b"}", "application/json")


@pytest.mark.parametrize(
    ("content_type", "body", "models"),
    [
        ("application/x-www-form-urlencoded", b"a=1&model=whisper-1&MODEL=b;mod%65l=c", ("whisper-1", "b", "c")),
        ("application/json", b'{"model": "a", "x": {"model": "i"}, "Model": "c"}', ("a", "c")),
        ("application/json; charset=utf-8", '\ufeff{"model": "a"}'.encode(), ("a",)),
        ("application/vnd.x+json", b'{"model": "a"}', ("a",)),
        ("text/plain", b' {"model": "a"}', ("a",)),
        ("", b'{"model": "a"}', ("a",)),
        ("application/json", b'[{"model": "a"}]', ("a",)),
        ("application/json", b'{"model": 3}', ("3",)),
        ("application/json", b'{"model": {"id": "a"}, "models": ["b", {}]}', ("{…}", "b")),
        ("application/json", b'{"session": {"model": "a", "input_audio_transcription": {"model": "b"}}}', ("a", "b")),
        ("application/json", b'{"requests": [{"params": {"model": "a"}}, {"model": "models/b"}]}', ("a", "models/b")),
        ("application/json", b'{"modelId": "a", "fallbacks": ["b", {"model": "c"}]}', ("a", "b", "c")),
        ("application/x-ndjson", b'{"body": {"model": "a"}}\n\n{"body": {"model": "b"}}', ("a", "b")),
        ("application/json", b"", ()),
        ("application/octet-stream", b"{no json", ()),
        ("application/octet-stream", b"\0\1model=x", ()),
    ],
)  # fmt: skip
def test_the_models_of_other_bodies(content_type: str, body: bytes, models: tuple[str, ...]):
    assert models_in(body, content_type) == models


@given(names=st.lists(st.sampled_from(["model", "Model", "file", "x"]), min_size=1), value=st.text("ab é", min_size=1))
async def test_what_a_client_library_writes_is_read(names: list[str], value: str):
    writer = aiohttp.FormData(default_to_multipart=True)
    for name in names:
        writer.add_field(name, value, filename="f" if name == "file" else None)
    payload = writer()
    body = await payload.as_bytes()

    asked = models_in(body, payload.headers["content-type"])

    assert (value in asked) == any(name.lower() == "model" for name in names)


@given(st.binary(max_size=200), st.sampled_from([TYPE, "application/json", "application/x-www-form-urlencoded", ""]))
def test_no_bytes_are_more_than_unreadable(data: bytes, content_type: str):
    with suppress(UnreadableError):
        assert all(isinstance(name, str) for name in models_in(data, content_type))


@pytest.mark.parametrize(
    "boundary",
    ["----WebKitFormBoundaryX", "geckoformboundary1", "dart-http-boundary-x", '"alamofire.boundary.1"', '"a=b"'],
)
def test_a_boundary_may_be_called_one(boundary: str):
    line = boundary.strip('"').encode()
    data = b"--" + line + b"\r\n" + part() + b"--" + line + b"--\r\n"

    assert models_in(data, f"multipart/form-data; boundary={boundary}") == ("whisper-1",)


def test_a_query_is_read_like_a_form():
    assert named_in_pairs("a=1&model=x&mOdEl=y") == ["x", "y"]
    assert named_in_pairs("model") == [""]


# What servers would read.


def models_that_email_reads(body: bytes) -> set[str]:
    """The standard library's parser of MIME, which guesses rather than refuses."""
    message = BytesParser(policy=compat32).parsebytes(f"Content-Type: {TYPE}\r\n\r\n".encode() + body)
    parts = message.get_payload() if message.is_multipart() else []
    assert isinstance(parts, list)
    named = [(each.get_param("name", header="content-disposition"), each.get_payload(decode=True)) for each in parts]
    return {as_text(value) for name, value in named if name == "model" and isinstance(value, bytes)}


def models_that_multipart_reads(body: bytes) -> set[str]:
    """python-multipart, which FastAPI's servers read forms with."""
    fields: list[Any] = []
    parser = FormParser("multipart/form-data", fields.append, fields.append, boundary=b"edge")
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError:
        return set()
    for each in fields:
        if isinstance(each, File):
            each.file_object.seek(0)
    values = [(each.field_name, each.file_object.read() if isinstance(each, File) else each.value) for each in fields]
    return {as_text(value or b"") for name, value in values if name == b"model"}


async def models_that_aiohttp_reads(body: bytes) -> set[str]:
    loop = asyncio.get_running_loop()
    stream = aiohttp.StreamReader(BaseProtocol(loop), limit=1 << 16, loop=loop)
    stream.feed_data(body)
    stream.feed_eof()
    found: set[str] = set()
    with suppress(ValueError, AssertionError, aiohttp.ClientError, RuntimeError):
        async for each in aiohttp.MultipartReader({"Content-Type": TYPE}, stream):
            if isinstance(each, aiohttp.BodyPartReader) and each.name == "model":
                found.add(as_text(bytes(await each.read())))
    return found


def as_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


@st.composite
def nearly_forms(draw: st.DrawFn) -> bytes:
    """A form of pieces, with some of them lost, doubled or out of place."""
    lines = st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n\r\n", b""])
    pieces = st.sampled_from([
        b"--edge", b"--edge--", b"--edge ", b" --edge", b"--edgex", b'Content-Disposition: form-data; name="model"',
        b"content-disposition: form-data; name=model", b"Content-Disposition: form-data; name*=utf-8''model",
        b'Content-Disposition: form-data; name="x"; filename="model"', b'Content-Disposition: attachment; name="model"',
        b'Content-Disposition : form-data; name="model"', b"Content-Type: text/plain",
        b"Content-Transfer-Encoding: base64",
        b"allowed", b"secret", b"c2VjcmV0", b" secret",
    ])  # fmt: skip
    data = form(*draw(st.lists(st.sampled_from([part(), part("x"), part(value=b"secret"), FILE]), max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        starts = [0, *(found.end() for found in re.finditer(rb"\r\n", data))]
        at = draw(st.sampled_from(starts))
        data = data[:at] + draw(pieces) + draw(lines) + data[at + draw(st.sampled_from([0, 0, 2, 8])) :]
    return data


@given(nearly_forms())
@example(form(part(value=b"secret")) + form(part()))
@example(form(part()).replace(b"\r\n", b"\n"))
async def test_no_server_reads_a_model_in_a_form_that_is_not_asked_about(body: bytes):
    try:
        asked = set(models_in(body, TYPE))
    except UnreadableError:
        return

    served = models_that_email_reads(body) | models_that_multipart_reads(body) | await models_that_aiohttp_reads(body)

    assert served - asked == set()


@given(
    st.lists(st.sampled_from(["model", "m%6Fdel", "MODEL", "=", "&", ";", "+", "%20", "secret", "%zz", "%ff"])).map(
        "".join
    )
)
def test_no_server_reads_a_model_in_a_query_that_is_not_asked_about(query: str):
    served = {
        value
        for separator in "&;"
        for name, value in parse_qsl(query, keep_blank_values=True, separator=separator)
        if name == "model" and not set("&;") & set(value)
    }

    assert served - set(named_in_pairs(query)) == set()
