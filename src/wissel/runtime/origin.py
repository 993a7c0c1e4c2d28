"""A URL as people may read it: one that is configured may hold a secret in its user, its path or its query."""

from typing import Final
from urllib.parse import urlsplit

NAMELESS: Final = "a URL"
"""What cannot be told apart from a secret."""


def without_user(url: str) -> str:
    """Scheme, host, port and path; of what is no such URL, or looks as if its user did, "a URL"."""
    shown = origin(url)
    if shown == NAMELESS:
        return shown
    path = urlsplit(url).path
    return NAMELESS if "@" in path else shown + path


def origin(url: str) -> str:
    """Scheme, host and port; `NAMELESS` where they cannot be told."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return NAMELESS
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}" if host else NAMELESS
