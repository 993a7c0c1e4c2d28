"""The admin API of a wissel that serves, as commands ask it."""

import getpass
import json
import os
import ssl
from dataclasses import dataclass
from http.client import HTTPException
from typing import Annotated, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

import typer

from wissel.errors import ConfigError, WorldError

DEFAULT_ADMIN: Final = "http://127.0.0.1:8081"
SECONDS: Final = 10.0

AdminOption = Annotated[
    str,
    typer.Option(
        "--admin",
        envvar="WISSEL_ADMIN",
        help="Where wissel's admin API is. Its token: WISSEL_ADMIN_TOKEN. For https://, files in PEM: WISSEL_ADMIN_CA, "
        "and a certificate of yours WISSEL_ADMIN_CERT and WISSEL_ADMIN_KEY.",
    ),
]


@dataclass(frozen=True, slots=True)
class RefusedByAdmin:
    """The API understood, and will not."""

    code: str
    message: str


class AdminClient:
    """Asks one wissel. Raises WorldError where it is away, ConfigError for what cannot be asked."""

    def __init__(self, url: str) -> None:
        whole = url if "://" in url else f"http://{url}"
        if urlsplit(whole).scheme not in {"http", "https"}:
            raise ConfigError([f'--admin: "{url}" should begin with http:// or https://'])
        self._url = whole.rstrip("/")
        # Without the environment's proxies: what is on loopback or in the mesh is not behind one.
        self._opener: OpenerDirector = build_opener(ProxyHandler({}), HTTPSHandler(context=_tls_context()))

    def get(self, *path: str) -> Any:
        """The answer to GET /v1/PATH; a refusal is a WorldError here."""
        answer = self._ask("GET", path, None)
        if isinstance(answer, RefusedByAdmin):
            raise WorldError(answer.message)
        return answer

    def act(self, *path: str, **asked: Any) -> Any | RefusedByAdmin:
        """The answer to POST /v1/PATH, done by the current user."""
        return self._ask("POST", path, {"by": getpass.getuser(), **asked})

    def _ask(self, method: str, path: tuple[str, ...], body: dict[str, Any] | None) -> Any | RefusedByAdmin:
        url = "/".join([self._url, "v1", *(quote(part, safe="") for part in path)])
        headers = {"content-type": "application/json"}
        if token := os.environ.get("WISSEL_ADMIN_TOKEN"):
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, data, headers, method=method)  # noqa: S310  # the scheme is checked above
        try:
            with self._opener.open(request, timeout=SECONDS) as response:
                return json.load(response)
        except HTTPError as error:
            return _refusal(url, error)
        except OSError as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise WorldError(f'no wissel answers at "{self._url}": {reason}; give --admin') from error
        except (HTTPException, ValueError):
            # Their words repeat what could not be sent, and that may be the token.
            raise WorldError(
                f'no wissel can be asked at "{self._url}": the address or WISSEL_ADMIN_TOKEN holds what cannot be '
                "sent, or no HTTP came back"
            ) from None


def _tls_context() -> ssl.SSLContext:
    """With the authority and the certificate that the environment names."""
    authority, cert, key = (os.environ.get(f"WISSEL_ADMIN_{name}") or None for name in ("CA", "CERT", "KEY"))
    if key is not None and cert is None:
        raise ConfigError(["WISSEL_ADMIN_KEY: it belongs to a certificate; give WISSEL_ADMIN_CERT too"])
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError([f'WISSEL_ADMIN_CA: cannot use "{authority}": {error}']) from error
    if cert is not None:
        try:
            # Without a passphrase: whoever asks for one on the terminal would hang a script.
            context.load_cert_chain(cert, key, password="")
        except OSError as error:
            place = "WISSEL_ADMIN_CERT" if key is None else "WISSEL_ADMIN_CERT and WISSEL_ADMIN_KEY"
            raise ConfigError([f'{place}: cannot use "{cert}": {error}']) from error
    return context


def _refusal(url: str, error: HTTPError) -> RefusedByAdmin:
    try:
        told = json.load(error)["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        raise WorldError(f'"{url}" answers {error.code} {error.reason}: no admin API of wissel') from error
    if error.code == 404:
        raise ConfigError([message]) from error
    if error.code != 409:
        raise WorldError(message) from error
    return RefusedByAdmin(code, message)
