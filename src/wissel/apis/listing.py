"""A page of a caller's answers, as OpenAI's lists are read: what follows `after`, at most `limit`, in an `order`."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from wissel.core.decision import ListedAnswer
from wissel.errors import UnreadableError

_USUAL: Final = 20
_MOST: Final = 100
_MOST_FIELDS: Final = 32


def page_asked(path: str) -> Mapping[str, str]:
    """The fields of a list's query. Raises UnreadableError for what would have to be left out."""
    try:
        pairs = parse_qsl(path.partition("?")[2], keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise UnreadableError("the query has too many fields") from error
    asked = dict(pairs)
    if any(name.startswith("metadata") for name in asked):
        raise UnreadableError("a list here knows no metadata; ask for the answers one by one", param="metadata")
    if not asked.get("limit", "1").isdecimal() or asked.get("order", "asc") not in {"asc", "desc"}:
        raise UnreadableError('"limit" must be a number and "order" asc or desc', param="limit")
    return asked


def page(
    answers: Sequence[ListedAnswer], asked: Mapping[str, str], show: Callable[[ListedAnswer], dict[str, Any]]
) -> bytes:
    """The page that was asked for, of `answers` from the oldest on."""
    ordered = list(answers) if asked.get("order", "asc") == "asc" else [*reversed(answers)]
    if after := asked.get("after"):
        begin = next((at for at, each in enumerate(ordered, 1) if each.id == after), len(ordered))
        ordered = ordered[begin:]
    limit = min(max(1, int(asked.get("limit", str(_USUAL))[:9])), _MOST)
    shown = [show(each) for each in ordered[:limit]]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return json.dumps({"object": "list", "data": shown, **ends, "has_more": len(ordered) > limit}).encode()
