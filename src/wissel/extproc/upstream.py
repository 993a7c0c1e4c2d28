"""What a server upstream gets of a caller's headers and path, and what it gets of ours.

A row of `apis.providers` says what every server of its kind wants, the file
what this one wants besides. A caller's credential goes on only where the file
says so, and with it whatever says which account is meant.
"""

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import quote, unquote

from wissel.apis.providers import OF_THE_WAY, PROVIDERS, WITHHELD, CredentialHeader, header_name
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.identity import CREDENTIAL_HEADERS
from wissel.core.snapshot import Credential, Model

_CALLED: Final = "/v1"
"""What every path of an API begins with, as callers know it."""


class Destination(Protocol):
    """What is said of the server behind a cluster, of a model's as of a passthrough's."""

    @property
    def provider(self) -> str: ...
    @property
    def base_path(self) -> str: ...
    @property
    def api_version(self) -> str | None: ...
    @property
    def credential(self) -> Credential | None: ...
    @property
    def forward_headers(self) -> frozenset[str]: ...


def headers_for(
    server: Destination, api: str, headers: Mapping[str, str], caller: Principal
) -> tuple[dict[str, str], list[str]]:
    """Those that are set, and the caller's that are left out; `api` is "" for what is no call."""
    provider = PROVIDERS[server.provider]
    credential = server.credential
    is_forwarded = credential is not None and credential.kind == "forward"
    withheld = (OF_THE_WAY if is_forwarded else WITHHELD) - server.forward_headers
    ours = {name: value for name, value in provider.headers.items() if name not in headers}
    if credential is not None and credential.kind == "secret":
        shown = CredentialHeader(credential.header, credential.prefix) if credential.header else provider.shows(api)
        ours[shown.name] = f"{shown.prefix}{credential.secret}"
    if not is_forwarded and (credential is not None or caller is not ANONYMOUS):
        withheld |= _ACCEPTED
    return ours, [name for name in headers if header_name(name) in withheld]


_ACCEPTED: Final = frozenset(CREDENTIAL_HEADERS)
"""Where a credential stands that was meant for wissel, and so is nobody else's business."""


def demanded_by(server: Destination) -> Mapping[str, str]:
    """The headers that its server wants to see, whoever says them."""
    return PROVIDERS[server.provider].headers


def shown_in(server: Model, api: str) -> frozenset[str]:
    """The headers that wissel and Envoy set for it, whatever a caller sent."""
    ours = frozenset(headers_for(server, api, {}, ANONYMOUS)[0])
    return ours | _OF_SIGNATURES if server.is_signed else ours


_OF_SIGNATURES: Final = frozenset({"authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"})


def path_for(server: Destination, path: str, deployment: str = "") -> str:
    """The path, with its query, under which the server has what a caller asked for at `path`.

    `deployment` is a model as its server calls it, where one is asked.
    """
    behind = path[len(_CALLED) :]
    is_below = path[: len(_CALLED)].lower() == _CALLED and behind[:1] in {"", "/", "?"}
    if not is_below:
        return path
    if server.api_version is not None:
        behind = _versioned(server, behind, deployment)
    elif server.base_path == _CALLED:
        return path
    found = f"{server.base_path}{behind}"
    return found if found.startswith("/") else f"/{found}"


def _versioned(server: Destination, behind: str, deployment: str) -> str:
    """What follows the base path, with the server's version in place of any that the caller names."""
    versions = PROVIDERS[server.provider].versions
    assert versions is not None
    assert server.api_version is not None
    asked, _, query = behind.partition("?")
    if deployment and asked in versions.deployed:
        asked = f"{versions.deployments}/{quote(deployment, safe='')}{asked}"
    kept = [each for each in query.split("&") if each and unquote(each.partition("=")[0]) != versions.field]
    return f"{asked}?{'&'.join([*kept, f'{versions.field}={quote(server.api_version)}'])}"
