"""What one value of the file must look like, and what is read from it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from wissel.apis.providers import PROVIDERS
from wissel.apis.table import APIS
from wissel.core.identity import CREDENTIAL_HEADERS
from wissel.core.quoting import Quoted
from wissel.runtime.redis_url import parse

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form:
    """What a text must look like."""

    pattern: str
    """Also for the JSON Schema, so in the words that Python's and JavaScript's regular expressions share."""
    what: str
    """Completes "should be ...\"."""
    hidden: bool = False
    """Whether what was written might be a secret, and is not repeated."""

    def check(self, text: str) -> str:
        if re.fullmatch(self.pattern, text):
            return text
        found = f"has {len(text)} characters of another form" if self.hidden else f"is {quote(text)}"
        raise ValueError(f"should be {self.what}, and {found}")

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


class RowOf:
    """A text that names a row of a table, as it stands when the file is read."""

    def __init__(self, rows: Mapping[str, object]) -> None:
        self._rows = rows

    def check(self, name: object) -> str:
        if isinstance(name, str) and name in self._rows:
            return name
        raise PydanticKnownError("literal_error", {"expected": ", ".join(f"'{each}'" for each in self._rows)})

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"enum": list(self._rows), "type": "string"}


def quote(text: str, limit: int = 60) -> str:
    """The text as a message repeats it: on one line, and not for ever."""
    shown = text if len(text) <= limit else text[:limit] + "…"
    return f'"{shown}"'.replace("\n", "\\n").replace("\t", "\\t")


_HOST_PORT = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
_KEY_SOURCE = r"principal|conversation|request|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|claim:[^\s:][^\s]*"


def _port_exists(address: str) -> str:
    if not address.startswith("unix:") and int(address.rpartition(":")[2]) >= 1 << 16:
        raise ValueError(f"the port should be at most 65535, and the address is {quote(address)}")
    return address


def _lower(text: str) -> str:
    return text.lower()


def _lower_header(source: str) -> str:
    return source.lower() if source.startswith("header:") else source


def _path_prefix(path: str) -> str:
    return path.lower().rstrip("/") or "/"


def _without_slash(path: str) -> str:
    return path.rstrip("/")


_NEVER_SENT = re.compile(
    r":.*|host|connection|content-.*|expect|keep-alive|te|trailer|transfer-encoding|upgrade|x-envoy-.*|x-wissel-.*"
)
"""Headers that say how a request is carried, or that belong to Envoy and wissel."""


def _may_be_sent(header: str) -> str:
    if _NEVER_SENT.fullmatch(header):
        raise ValueError(
            f"{quote(header)} belongs to the connection, to Envoy or to wissel; no credential stands there"
        )
    return header


def _apart(prefix: str) -> str:
    """A word such as Bearer stands apart from the secret, whether the space was written or not."""
    return f"{prefix} " if prefix[-1].isalnum() else prefix


def _withheld_or_free(header: str) -> str:
    if header in CREDENTIAL_HEADERS:
        raise ValueError(f"{quote(header)} is where wissel's own keys stand; with credential: forward it goes on")
    if _NEVER_SENT.fullmatch(header):
        raise ValueError(f"{quote(header)} belongs to the connection, to Envoy or to wissel")
    return header


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"no time zone is named {quote(name)}") from None
    return name


def unix_time(timestamp: str) -> float:
    """Of a `Timestamp`. Raises ValueError for a day or an hour that does not exist."""
    return datetime.fromisoformat(timestamp.upper()).timestamp()


def _timestamp(text: str) -> str:
    try:
        unix_time(text)
    except ValueError as error:
        raise ValueError(f"{quote(text)} does not exist: {error}") from None
    return text


def _redis_url(url: str) -> str:
    if url == "embedded":
        return url
    read = parse(url)
    if read.password is not None or read.sentinel_password is not None:
        raise ValueError("a password is never written here: give {url: {env: NAME}} or {url: {file: PATH}}")
    return url


Name = Annotated[
    str,
    Form(
        r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}",
        "a name of at most 128 letters, digits and . _ : / @ + -, beginning with a letter or digit",
    ),
]
NameOrAny = Annotated[str, Form(r"\*|[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", 'a name, or "*" for all')]
ClusterName = Annotated[str, Form(r"[!-~]{1,255}", "the name of an Envoy cluster, without spaces")]
Text = Annotated[str, Form(r"[\s\S]*\S[\s\S]*", "some text")]
_HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
HeaderName = Annotated[str, Form(_HEADER, "the name of a header"), AfterValidator(_lower)]
SentHeaderName = Annotated[
    str,
    # Beside a secret somebody may write the secret itself.
    Form(_HEADER, "the name of a header", hidden=True),
    AfterValidator(_lower),
    AfterValidator(_may_be_sent),
]
BasePath = Annotated[
    str,
    Form(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@%-]+/?)*", 'a path that begins with "/", without "//", "?" and "#"'),
    AfterValidator(_without_slash),
]
ApiVersion = Annotated[str, Form(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a version of an API, such as 2024-10-21")]
RequestPath = Annotated[str, Form(r"/[!-~]*", 'a path that begins with "/", as a request has it')]
AbsoluteFile = Annotated[str, Form(r"/(?:[\s\S]*[^/])", "the absolute path of a file")]
Prefix = Annotated[
    str,
    Form(r"[!-~](?:[ -~]{0,62}[!-~])? ?", "what stands before the secret, such as Bearer", hidden=True),
    AfterValidator(_apart),
]
TagName = Annotated[str, Form(r"[A-Za-z][\w .:-]{0,63}", "the name of a tag, without < and >")]
MemberName = Annotated[str, Form(r"[^\s.]+(?:\.[^\s.]+)?", "the name of a member, or of one within another: a.b")]
OwnHeader = Annotated[
    str,
    Form(r"[Xx]-[Ww][Ii][Ss][Ss][Ee][Ll]-[0-9A-Za-z_.-]+", 'the name of a header that begins with "x-wissel-"'),
    AfterValidator(_lower),
]
KeySourceName = Annotated[
    str,
    Form(_KEY_SOURCE, "one of principal, conversation, request, header:NAME, claim:NAME"),
    AfterValidator(_lower_header),
]
Address = Annotated[
    str, Form(_HOST_PORT, 'an address such as "127.0.0.1:8081" or "[::1]:8081"'), AfterValidator(_port_exists)
]
ProcessorAddress = Annotated[
    str,
    Form(rf"{_HOST_PORT}|unix:/\S+", 'an address such as "127.0.0.1:50051" or "unix:/run/wissel.sock"'),
    AfterValidator(_port_exists),
]
BaseUrl = Annotated[
    str,
    Form(
        r"https?://[^\s?#@]+",
        "a URL that begins with http:// or https://, such as http://127.0.0.1:8000/v1, without a user or password",
        hidden=True,
    ),
]
PathPattern = Annotated[
    str,
    Form(r"[/*][^\s?#]*", 'a pattern of paths that begins with "/" or "*", such as "/v1/*"'),
    AfterValidator(_lower),
]
PathPrefix = Annotated[
    str,
    Form(r"/(?:[^\s?#/]+/?)*", 'a path that begins with "/", without "//", "?" and "#"'),
    AfterValidator(_path_prefix),
]
Sha256 = Annotated[
    str,
    Form(r"[0-9A-Fa-f]{64}", "the SHA-256 of the secret, 64 hex digits (`wissel keys` makes one)", hidden=True),
    AfterValidator(_lower),
]
RedisUrl = Annotated[
    str,
    Form(
        r"embedded|(?:rediss?(?:\+(?:sentinel|cluster))?|unix)://\S+",
        '"embedded" or a URL that begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://',
        hidden=True,
    ),
    AfterValidator(_redis_url),
]
LimitedPer = Annotated[
    str,
    Form(
        r"principal|group|model|route|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+",
        "one of principal, group, model, route, header:NAME",
    ),
    AfterValidator(_lower_header),
]
WholeRate = Annotated[str, Form(r"[1-9][0-9]{0,11}/[smhd]", "a number in a time, such as 600/m (s, m, h or d)")]
MoneyRate = Annotated[
    str,
    Form(
        r"(?:[1-9][0-9]{0,6}(?:\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])/[smhd]",
        "dollars in a time, such as 500/d or 0.50/h (s, m, h or d)",
    ),
]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Hours = Annotated[
    str,
    Form(
        r"(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)",
        'two times of the day, such as "09:00-17:30"',
    ),
]
ZoneName = Annotated[
    str, Form(r"[A-Za-z0-9_+/-]{1,64}", "the name of a time zone, such as Europe/Amsterdam"), AfterValidator(_zone)
]
Timestamp = Annotated[
    str,
    Form(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
        'a time such as "2027-01-31T09:00:00Z", with Z or a distance from UTC',
    ),
    AfterValidator(_timestamp),
]
OtlpUrl = Annotated[
    str, Form(r"https?://[^\s?#@]+", "a URL such as http://localhost:4318, without a user or password", hidden=True)
]
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _duration(value: Any) -> Any:  # whatever stands in the file
    if isinstance(value, float):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    if found is None:
        shown = quote(value) if isinstance(value, str) else "something else"
        raise ValueError(f'should be a duration such as "150ms", "30s", "10m" or "1h", and is {shown}')
    return float(found[1]) * _UNIT_SECONDS[found[2]]


def _written(seconds: float) -> str:
    return f"{seconds}s"


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(_written),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"}),
]
"""Written with its unit, read in seconds."""

_AMOUNT = r"^\d+(\.\d+)?(%|ms|s)?$"

Amount = Annotated[
    str,
    Form(r"\d+(?:\.\d+)?(?:%|ms|s)?", 'a number, a share such as "10%" or a duration such as "1500ms"'),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _AMOUNT}]}),
]

ApiName = Annotated[str, RowOf(APIS)]
ProviderName = Annotated[str, RowOf(PROVIDERS)]

_READ_HERE = frozenset(
    {
        "model",
        "models",
        "fallbacks",
        "messages",
        "input",
        "prompt",
        "system",
        "instructions",
        "stream",
        "stream_options",
    }
    | {"n", "best_of", "store", "background", "previous_response_id"}
)
"""Members of a body by which wissel decides, and so may not change afterwards."""


def _unread(name: str) -> str:
    if name in _READ_HERE:
        raise ValueError("wissel decides by this member, so it stays as the caller wrote it")
    return name


ParamName = Annotated[
    str,
    Form(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", "the name of a member of a body, such as temperature"),
    AfterValidator(_unread),
]

SORTED: Final = PlainSerializer(lambda found: sorted(found))  # noqa: PLW0108  # sorted() has no signature to inspect
"""Of sets, so that equal ones have one revision."""

ParamNames = Annotated[
    frozenset[ParamName],
    SORTED,
]


def _as_json(value: Any) -> Any:
    """What was written, as JSON would have it: a number or true without quotes is no text."""
    if isinstance(value, dict):
        return {name: _as_json(each) for name, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_as_json(each) for each in cast("list[Any]", value)]
    if not isinstance(value, str) or isinstance(value, Quoted):
        return value
    try:
        return json.loads(value, parse_constant=str)
    except ValueError:
        return value


InJson = Annotated[Any, BeforeValidator(_as_json)]

SetOf = Annotated[
    frozenset[T],
    Field(min_length=1),
    SORTED,
]

ForwardedHeaders = Annotated[
    frozenset[Annotated[HeaderName, AfterValidator(_withheld_or_free)]],
    SORTED,
]


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of a checked `host:port`; of an IPv6 address without the brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def worker_address(address: str, worker: int) -> str:
    """Where a worker listens if the first of them listens on `address`: a port further on, or a socket beside it."""
    if worker == 0:
        return address
    if address.startswith("unix:"):
        return f"{address}.{worker}"
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + worker}"
