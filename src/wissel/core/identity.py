"""Who is calling.

A key is known by the SHA-256 of its whole secret: the look-up compares hashes,
so how long it takes says nothing about how much of a wrong key is right.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from wissel.core.access import ANONYMOUS, Principal
from wissel.core.decision import Denied
from wissel.core.snapshot import Snapshot

CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key")
"""Where callers present a key; OpenAI's clients use the first, Anthropic's the second."""


def identify(snapshot: Snapshot, headers: Mapping[str, str]) -> Principal | Denied:
    """The caller behind a request's headers; everyone is anonymous where `access` is not configured."""
    if snapshot.rules is None:
        return ANONYMOUS
    secret = _secret(headers)
    if not secret:
        return _unauthenticated("no API key was given; send it as `authorization: Bearer <key>`", snapshot)
    key = snapshot.keys.get(sha256(secret.encode("utf-8", "surrogatepass")).hexdigest())
    if key is None:
        return _unauthenticated("the API key is not valid", snapshot)
    return key.principal


def _secret(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme:
        return token.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-api-key", "").strip()


def _unauthenticated(message: str, snapshot: Snapshot) -> Denied:
    return Denied(
        status=401,
        message=message,
        type="authentication_error",
        code="invalid_api_key",
        headers={"www-authenticate": "Bearer"},
        revision=snapshot.revision,
    )
