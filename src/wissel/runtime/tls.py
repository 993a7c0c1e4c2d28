"""PEM files become what a listener needs to speak TLS."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from wissel.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TLS:
    """PEM files of a server; with `client_ca`, peers show a certificate that it signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None


def server_context(tls: TLS, place: str, *, clients: ssl.VerifyMode = ssl.CERT_REQUIRED) -> ssl.SSLContext:
    """`clients` says whether a peer must show a certificate where there is a `client_ca`.

    Raises ConfigError, with `place` in the configuration, for files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f'{place}: cannot use "{tls.cert}" with "{tls.key}": {error}']) from error
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([f'{place}.client_ca: cannot use "{tls.client_ca}": {error}']) from error
        context.verify_mode = clients
    return context
