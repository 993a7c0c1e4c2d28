"""The APIs that are understood. A row is all that is needed for one more."""

from collections.abc import Mapping
from typing import Final

from wissel.apis.api import Api
from wissel.apis.chat import CHAT
from wissel.apis.completions import COMPLETIONS
from wissel.apis.embeddings import EMBEDDINGS
from wissel.apis.messages import MESSAGES
from wissel.apis.responses import RESPONSES
from wissel.core.affinity import MadeId, is_id

APIS: Final[Mapping[str, Api]] = {api.name: api for api in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS)}
"""By name."""

PATHS: Final[Mapping[str, Api]] = {path: api for api in APIS.values() for path in (*api.paths, *api.counting_paths)}
"""By path."""


def spoken(path: str, headers: Mapping[str, str]) -> Api | None:
    """The API whose clients send what is no call of one, by what its path lies below or by its marker."""
    for api in APIS.values():
        if any(path.startswith(f"{each}/") for each in api.paths) or (api.marker and api.marker in headers):
            return api
    return None


def kept_at(method: str, path: str) -> tuple[Api, MadeId] | None:
    """The answer that a request is about, if it asks what may be asked of one; `path` has its letters as written."""
    for api in APIS.values():
        base = f"{api.paths[0]}/"
        if api.kept is not None and path[: len(base)].lower() == base:
            made, _, word = path[len(base) :].partition("/")
            if (method, word.lower()) in api.kept.asks and is_id(made):
                return api, MadeId(api.name, made)
    return None


def listed_at(method: str, path: str) -> Api | None:
    """The API whose kept answers a request wants listed; `path` is normalised."""
    api = PATHS.get(path) if method == "GET" else None
    if api is None or path != api.paths[0] or api.kept is None or api.kept.listed is None:
        return None
    return api
