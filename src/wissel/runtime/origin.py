"""A URL as people may read it: one that is configured may hold a secret in its user, its path or its query."""

from urllib.parse import urlsplit


def without_user(url: str) -> str:
    """Scheme, host, port and path."""
    try:
        return origin(url) + urlsplit(url).path
    except ValueError:
        return origin(url)


def origin(url: str) -> str:
    """Scheme, host and port; "a URL" where they cannot be told."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "a URL"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}" if host else "a URL"
