"""An admin application, listening as long as a block of code runs."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from wissel.config import host_and_port
from wissel.config.model import AdminTls
from wissel.errors import ConfigError, why_not_bound
from wissel.runtime.sockets import bound
from wissel.runtime.tls import TLS, server_context


@asynccontextmanager
async def listening(application: web.Application, address: str, tls: AdminTls | None = None) -> AsyncGenerator[str]:
    """Serve on `host:port` or `unix:/path`, and hand out the address as bound.

    Raises ConfigError where it cannot be bound, and for files of `tls` that cannot be used.
    """
    context = _tls_context(tls) if tls else None
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            site: web.BaseSite
            if address.startswith("unix:"):
                site = web.UnixSite(runner, address.removeprefix("unix:"))
            else:
                site = web.SockSite(runner, bound(*host_and_port(address)), ssl_context=context)
            await site.start()
        except OSError as error:
            raise ConfigError([f'listen.admin: cannot listen on "{address}": {why_not_bound(error)}']) from error
        yield _name(runner.addresses[0])
    finally:
        await runner.cleanup()


def _tls_context(tls: AdminTls) -> ssl.SSLContext:
    files = TLS(Path(tls.cert), Path(tls.key), Path(tls.client_ca) if tls.client_ca else None)
    # Who shows none may still have a token, and a probe has neither.
    return server_context(files, "admin.tls", clients=ssl.CERT_OPTIONAL)


def _name(bound: str | tuple[str, int]) -> str:
    if isinstance(bound, str):
        return f"unix:{bound}"
    host, port = bound[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
