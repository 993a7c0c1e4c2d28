"""The APIs that are understood. A row is all that is needed for one more."""

from collections.abc import Mapping
from typing import Final

from wissel.apis.api import Api
from wissel.apis.chat import CHAT
from wissel.apis.completions import COMPLETIONS
from wissel.apis.embeddings import EMBEDDINGS
from wissel.apis.messages import MESSAGES
from wissel.apis.responses import RESPONSES

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
