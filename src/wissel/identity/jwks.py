"""The keys that an issuer signs with, kept fresh beside the request path.

No request ever waits for an issuer's server: it is asked when wissel starts,
every few minutes, and soon after a token came whose key is not known. While it
is down or slow, the keys it gave last stay.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, cast

import aiohttp
import structlog
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from wissel.errors import UpstreamError
from wissel.runtime.origin import without_user

log = structlog.get_logger(__name__)

DEADLINE: Final = 3.0
"""Seconds that an issuer's server may take."""

REFRESH_SECONDS: Final = 300.0

HURRY_SECONDS: Final = 5.0
"""Between two looks for keys that are not known: tokens can be made up faster than any server answers."""

MOST_TRIED: Final = 8
"""Keys that one token is tried with, where ids do not tell them apart."""

_MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key."""

    key: Any
    """As the cryptography package has it."""
    algorithm: str | None
    """The only one that it may be used with; None where the issuer does not say."""
    kid: str = ""
    """Empty where the issuer gives it none."""


class KeySet:
    """The public keys at `source`, a URL or the path of a file, by their ids."""

    def __init__(
        self,
        source: str,
        *,
        clock: Callable[[], float] = monotonic,
        deadline: float = DEADLINE,
        hurry: float = HURRY_SECONDS,
    ) -> None:
        self._source = source
        self._shown = source if self.is_file else without_user(source)
        self._clock = clock
        self._deadline = deadline
        self._hurry = hurry
        self._keys: tuple[SigningKey, ...] = ()
        self._wanted = asyncio.Event()
        self._asked_at = -hurry

    @property
    def is_file(self) -> bool:
        return not self._source.startswith(("https://", "http://"))

    def find(self, kid: str | None) -> tuple[SigningKey, ...]:
        """The keys that may have signed: those of this id, else those without any; all, for a token without one.

        What is not there is looked for soon.
        """
        if kid is None:
            found = self._keys
        else:
            found = tuple(key for key in self._keys if key.kid == kid) or tuple(
                key for key in self._keys if not key.kid
            )
        if not found:
            self._wanted.set()
        return found[:MOST_TRIED]

    async def start(self) -> None:
        """Read the keys once; without them every token is refused until they are there."""
        try:
            await self.refresh()
        except UpstreamError as error:
            log.warning("jwks_not_read", source=self._shown, error=str(error), kept=len(self._keys))

    async def run(self) -> None:
        """Keep the keys fresh, for ever."""
        while True:
            await self._until_wanted()
            await self.start()

    async def _until_wanted(self) -> None:
        """A while from now, or a few seconds after the last time if an unknown key is wanted."""
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                await self._wanted.wait()
        except TimeoutError:
            return
        self._wanted.clear()
        await asyncio.sleep(max(0.0, self._asked_at + self._hurry - self._clock()))

    async def refresh(self) -> None:
        """Read the keys now. Raises UpstreamError, and then those that were known stay."""
        self._asked_at = self._clock()
        raw = await (self._read() if self.is_file else self._fetch())
        self._keys = keys_of(raw, self._shown)

    async def _fetch(self) -> bytes:
        limit = aiohttp.ClientTimeout(total=self._deadline)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, trust_env=True) as session,
                session.get(self._source, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise UpstreamError(f'"{self._shown}" answered {response.status}')
                raw = await response.content.read(_MOST_BYTES + 1)
                while len(raw) <= _MOST_BYTES and (more := await response.content.read(_MOST_BYTES)):
                    raw += more
        except TimeoutError as error:
            raise UpstreamError(f'"{self._shown}" did not answer within {self._deadline:g} seconds') from error
        except aiohttp.ClientError as error:
            # Its own words may hold the URL, and that a password.
            raise UpstreamError(f'"{self._shown}" cannot be reached: {type(error).__name__}') from error
        if len(raw) > _MOST_BYTES:
            raise UpstreamError(f'"{self._shown}" is larger than {_MOST_BYTES} bytes')
        return raw

    async def _read(self) -> bytes:
        try:
            return await asyncio.to_thread(Path(self._source).read_bytes)
        except OSError as error:
            raise UpstreamError(f'"{self._source}" cannot be read: {error.strerror}') from error


def keys_of(raw: bytes, source: str) -> tuple[SigningKey, ...]:
    """The signing keys of a JWK set; secrets and what is not understood are left out.

    Raises UpstreamError, also for a set in which no key is left: an issuer that shows none is mending something.
    """
    try:
        members: Any = json.loads(raw)
        listed = cast("list[Any]", members["keys"])
        entries = [cast("dict[str, Any]", each) for each in listed if isinstance(each, dict)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UpstreamError(f'"{source}" is no JWK set') from error
    keys: list[SigningKey] = []
    for entry in entries:
        # A symmetric key in a public place would let everyone sign.
        if entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        try:
            keys.append(SigningKey(PyJWK(entry).key, entry.get("alg"), str(entry.get("kid") or "")))
        except (PyJWTError, ValueError, TypeError) as error:
            log.info("jwk_left_out", source=source, kid=str(entry.get("kid", "")), error=str(error))
    if not keys:
        raise UpstreamError(f'"{source}" has no key to verify signatures with')
    return tuple(keys)
