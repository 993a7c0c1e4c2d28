"""From a JSON Web Token to the caller it speaks for, or to why it is refused.

Which algorithm verifies is the operator's choice and the key's, never the
token's. Issuer and audience are always checked, and a token without an end is
no token. Checking needs no I/O: the keys are there, or the token is refused.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidKeyError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from wissel.core.access import Principal
from wissel.core.identity import flatten, groups_at, text_at
from wissel.core.snapshot import TokenIssuer
from wissel.errors import ConfigError, UpstreamError
from wissel.identity.jwks import HURRY_SECONDS, KeySet, SigningKey

MOST_BYTES: Final = 16 * 1024
"""Of a token; a longer one is not even looked at."""

MOST_NAME: Final = 200
"""Characters of what a token calls its caller."""

_REASONS: Final[Mapping[type[Exception], str]] = {
    ExpiredSignatureError: "the token has expired",
    ImmatureSignatureError: "the token is not valid yet",
    InvalidAudienceError: "the token is for another audience",
    InvalidSignatureError: "the token's signature is wrong",
}


class Tokens:
    """Checks the tokens of the configured issuers."""

    def __init__(self, issuers: tuple[TokenIssuer, ...], key_sets: Mapping[str, KeySet]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._key_sets = key_sets

    def verify(self, token: str) -> Principal | str:
        """The caller, or why the token is refused; the reason repeats nothing of the token."""
        if len(token) > MOST_BYTES:
            return f"the token is longer than {MOST_BYTES} bytes"
        try:
            header = jwt.get_unverified_header(token)
            unverified: Any = jwt.decode(token, options={"verify_signature": False})
            issuer = self._issuers.get(unverified.get("iss"))
            if issuer is None:
                return "the token's issuer is not known here"
            return self._verify(token, header, issuer)
        except MissingRequiredClaimError as error:
            return f'the token has no "{error.claim}"'
        except (PyJWTError, ValueError, TypeError, AttributeError, RecursionError) as error:
            return _REASONS.get(type(error), "the token cannot be read")

    def _verify(self, token: str, header: Mapping[str, Any], issuer: TokenIssuer) -> Principal | str:
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in issuer.algorithms:
            return "the token's algorithm is not allowed"
        found = self._key_sets[issuer.jwks].find(kid)
        if not found:
            return "the token's key is not known"
        keys = [key for key in found if key.algorithm in {None, algorithm}]
        if not keys:
            return "the token's algorithm is not its key's"
        claims = _claims(token, keys, algorithm, issuer)
        name = text_at(claims, issuer.principal_claim)
        if not name:
            return f'the token has no "{issuer.principal_claim}"'
        if len(name) > MOST_NAME or not _is_text(name):
            return f'the token\'s "{issuer.principal_claim}" is longer than {MOST_NAME} characters, or no text'
        return Principal(issuer.prefix + name, groups_at(claims, issuer.groups_claim), flatten(claims))


def _claims(token: str, keys: Sequence[SigningKey], algorithm: str, issuer: TokenIssuer) -> dict[str, Any]:
    """What the token says, by the first of the keys that signed it. Raises PyJWTError."""
    if len(keys) == 1:
        return _decoded(token, keys[0], algorithm, issuer)
    for key in keys:
        # Where ids do not tell keys apart, one of another kind may be among them, which cannot even be tried.
        with suppress(InvalidSignatureError, InvalidKeyError, TypeError, AttributeError):
            return _decoded(token, key, algorithm, issuer)
    raise InvalidSignatureError


def _decoded(token: str, key: SigningKey, algorithm: str, issuer: TokenIssuer) -> dict[str, Any]:
    return jwt.decode(
        token,
        key.key,
        algorithms=[algorithm],
        audience=list(issuer.audiences),
        issuer=issuer.issuer,
        leeway=issuer.clock_skew,
        options={"require": ["exp", "iss", "aud"]},
    )


def _is_text(name: str) -> bool:
    """Whether it can be written: JSON's escapes can name half a character."""
    return not any("\ud800" <= each <= "\udfff" for each in name)


class KeySets:
    """One `KeySet` for each source, over all reloads; a new one is read before it is asked."""

    def __init__(self, *, hurry: float = HURRY_SECONDS) -> None:
        self._hurry = hurry
        self._sets: dict[str, KeySet] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def tokens(self, issuers: tuple[TokenIssuer, ...]) -> Tokens | None:
        """What checks the tokens of `issuers`; None where there are none."""
        new = {
            issuer.jwks: KeySet(issuer.jwks, hurry=self._hurry) for issuer in issuers if issuer.jwks not in self._sets
        }
        await asyncio.gather(*(key_set.start() for key_set in new.values()))
        self._tasks += [asyncio.create_task(key_set.run()) for key_set in new.values()]
        self._sets.update(new)
        return Tokens(issuers, self._sets) if issuers else None

    async def reread(self) -> None:
        """Read those that are files now. Raises ConfigError for what cannot be used, and its keys stay."""
        problems: list[str] = []
        for key_set in self._sets.values():
            if key_set.is_file:
                try:
                    await key_set.refresh()
                except UpstreamError as error:
                    problems.append(f"access.jwt: {error}; the keys that it held before stay")
        if problems:
            raise ConfigError(problems)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
