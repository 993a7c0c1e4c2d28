"""Who is calling.

    API key -> JSON Web Token -> mesh identity -> what Envoy has verified: the first that applies

A credential that is shown and is not valid is refused, and never passed over
for a weaker one. A key of the configuration is known by the SHA-256 of its
whole secret; a managed key is looked up by its public id, and then hashes are
compared in constant time: how long either takes says nothing about how much of
a wrong key is right.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, Protocol, cast

from wissel.core.access import ANONYMOUS, Principal
from wissel.core.decision import Denied
from wissel.core.refusals import expired_key, no_key, wrong_key, wrong_token
from wissel.core.request import Head
from wissel.core.snapshot import ManagedKey, Snapshot, VerifiedIdentity

CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key")
"""Where callers present a key; OpenAI's clients use the first, Anthropic's the second."""

MANAGED_PREFIX: Final = "wsl-"
"""Managed keys are `wsl-<public id>-<secret>`."""

PEER_URI: Final = "connection.uri_san_peer_certificate"
PEER_IS_VERIFIED: Final = "connection.mtls"
"""Envoy's attributes of the peer's certificate."""

FORWARDED_CERTIFICATE: Final = "x-forwarded-client-cert"

_SPIFFE: Final = "spiffe://"


class TokenCheck(Protocol):
    """Checks JSON Web Tokens."""

    def verify(self, token: str) -> Principal | str:
        """The caller, or why the token is refused."""
        ...


def identify(snapshot: Snapshot, head: Head, *, now: float, tokens: TokenCheck | None = None) -> Principal | Denied:
    """The caller behind a request; everyone is anonymous where `access` is not configured. `now` is Unix time."""
    if snapshot.rules is None:
        return ANONYMOUS
    secret = _secret(head.headers)
    mesh = _mesh_identity(snapshot, head)
    verified = _verified_identity(snapshot.verified, head) if snapshot.verified else None
    takes_secrets = bool(snapshot.keys or snapshot.managed or tokens)
    is_envoys = verified is not None and tokens is None and secret.count(".") == 2
    if secret and not is_envoys and (takes_secrets or not (mesh or verified)):
        return _by_secret(snapshot, secret, now, tokens)
    if found := mesh or verified:
        return found
    return no_key(snapshot.revision)


def _by_secret(snapshot: Snapshot, secret: str, now: float, tokens: TokenCheck | None) -> Principal | Denied:
    digest = sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
    if (key := snapshot.keys.get(digest)) is not None:
        return key.principal
    if (public_id := public_id_of(secret)) is not None:
        return _managed(snapshot, public_id, digest, now)
    if tokens is not None and secret.count(".") == 2:
        found = tokens.verify(secret)
        return found if isinstance(found, Principal) else wrong_token(found, snapshot.revision)
    return wrong_key(snapshot.revision)


def _managed(snapshot: Snapshot, public_id: str, digest: str, now: float) -> Principal | Denied:
    key = snapshot.managed.get(public_id, _NOBODYS)
    is_right = any([hmac.compare_digest(digest, each) for each in key.hashes(now)])  # noqa: C419  # all of them, always
    if not is_right:
        return wrong_key(snapshot.revision)
    if key.expires is not None and now >= key.expires:
        return expired_key(public_id, snapshot.revision)
    return key.principal


_NOBODYS: Final = ManagedKey("", Principal(""), sha256="0" * 64)
"""Compared with where no key has the id, so that this takes as long."""


def public_id_of(secret: str) -> str | None:
    """The public part of a managed key; None if it is none."""
    if not secret.startswith(MANAGED_PREFIX):
        return None
    public_id, dash, rest = secret.removeprefix(MANAGED_PREFIX).partition("-")
    return public_id if dash and public_id and rest else None


def _secret(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme:
        return token.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-api-key", "").strip()


def _mesh_identity(snapshot: Snapshot, head: Head) -> Principal | None:
    match snapshot.spiffe:
        case "":
            return None
        case "attributes":
            is_verified = head.attributes.get(PEER_IS_VERIFIED, "").lower() in {"true", "1", "1.0"}
            uri = head.attributes.get(PEER_URI, "") if is_verified else ""
        case "x-forwarded-client-cert":
            uri = forwarded_uri(head.headers.get(FORWARDED_CERTIFICATE, ""))
    return Principal(uri) if uri.startswith(_SPIFFE) and "," not in uri else None


def forwarded_uri(header: str) -> str:
    """The SPIFFE URI in Envoy's `x-forwarded-client-cert`: of the last element, which our own proxy wrote.

    Empty where there is none, and where there are two: then nobody knows which one is meant.
    """
    elements, current = [list[tuple[str, str]]()], [list[str](), list[str]()]
    side, quoted, escaped = 0, False, False

    def finish() -> None:
        nonlocal side
        name, value = map("".join, current)
        elements[-1].append((name.strip().lower(), value))
        current[:] = [], []
        side = 0

    for char in header:
        if escaped:
            current[side].append(char)
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif quoted or char not in "=;," or (char == "=" and side == 1):
            current[side].append(char)
        elif char == "=":
            side = 1
        else:
            finish()
            if char == ",":
                elements.append([])
    if quoted or escaped:
        return ""
    finish()
    uris = [value for name, value in elements[-1] if name == "uri" and value.startswith(_SPIFFE)]
    return uris[0] if len(uris) == 1 else ""


def _verified_identity(source: VerifiedIdentity, head: Head) -> Principal | None:
    """What another filter of Envoy's, such as jwt_authn, has verified and left in the dynamic metadata."""
    fields = head.metadata.get(source.namespace)
    if fields is None:
        return None
    name = text_at(fields, source.principal_claim)
    if not name:
        return None
    return Principal(source.prefix + name, groups_at(fields, source.groups_claim), flatten(fields))


# Claims.


def text_at(claims: Mapping[str, Any], path: str) -> str:
    """The text at a path such as `payload.sub`; empty where there is none. A name with dots wins over a path."""
    found = _at(claims, path)
    return found if isinstance(found, str) else ""


def groups_at(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """The groups at a path: a list of texts, or one text with spaces between, as `scope` has them."""
    found = _at(claims, path)
    if isinstance(found, str):
        return frozenset(found.split())
    if isinstance(found, list | tuple):
        return frozenset(each for each in cast("list[object]", found) if isinstance(each, str))
    return frozenset()


def _at(claims: Mapping[str, Any], path: str) -> object:
    if path in claims:
        return claims[path]
    # Names may have dots themselves, as URLs have: every dot may be where one ends, and the longest name wins.
    at = path.rfind(".")
    while at > 0:
        inner = claims.get(path[:at])
        if isinstance(inner, Mapping):
            found = _at(cast("Mapping[str, Any]", inner), path[at + 1 :])
            if found is not None:
                return found
        at = path.rfind(".", 0, at)
    return None


def flatten(claims: Mapping[str, Any], prefix: str = "", depth: int = 8) -> dict[str, str]:
    """Claims by dotted names; lists are left out."""
    flat: dict[str, str] = {}
    for name, value in claims.items():
        match value:
            case bool():
                flat[prefix + name] = "true" if value else "false"
            case str() | int() | float():
                flat[prefix + name] = str(value)
            case Mapping() if depth:
                flat |= flatten(cast("Mapping[str, Any]", value), f"{prefix}{name}.", depth - 1)
            case _:
                pass
    return flat
