"""Secrets, fetched from where the file says that they are kept."""

from collections.abc import Mapping
from pathlib import Path

from wissel.config import model
from wissel.errors import ConfigError


def fetch(place: str, secret: model.Secret | None, environ: Mapping[str, str]) -> str | None:
    secrets = Secrets(environ)
    found = secrets.find(place, secret)
    if secrets.problems:
        raise ConfigError(secrets.problems)
    return found


class Secrets:
    """Fetches secrets and notes those that cannot be had."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def find(self, place: str, secret: model.Secret | None) -> str | None:
        if secret is None:
            return None
        try:
            return self._read(secret)
        except _NoSecretError as error:
            self.problems.append(f"{place}: {error}")
            return None

    def _read(self, secret: model.Secret) -> str:
        if secret.file is not None:
            where = f'the file "{secret.file}"'
            try:
                found = Path(secret.file).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not text"
                raise _NoSecretError(f"{where} cannot be read: {why}") from error
        else:
            where = f'the environment variable "{secret.env}"'
            value = self._environ.get(secret.env or "")
            if value is None:
                raise _NoSecretError(f"{where} is not set")
            found = value.strip()
        if not found:
            raise _NoSecretError(f"{where} is empty")
        if not (found.isascii() and found.isprintable()):
            raise _NoSecretError(f"{where} holds what no header can carry; it should be printable ASCII on one line")
        return found


class _NoSecretError(Exception):
    """Why a secret cannot be had."""
