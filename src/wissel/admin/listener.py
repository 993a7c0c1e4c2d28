"""An admin application, listening as long as a block of code runs."""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from wissel.config import host_and_port
from wissel.config.model import AdminTls
from wissel.errors import ConfigError, why_not_bound
from wissel.runtime.listener import RenewableListener
from wissel.runtime.sockets import bound
from wissel.runtime.tls import TLS, server_context


@dataclass(frozen=True, slots=True)
class AdminListener:
    """One that is open."""

    address: str
    """As bound."""
    serve: Callable[[ssl.SSLContext | None], Awaitable[None]]
    """Speak TLS by this context with whoever connects from now on; on a Unix socket there is none."""


@asynccontextmanager
async def listening(
    application: web.Application, address: str, context: ssl.SSLContext | None = None
) -> AsyncGenerator[AdminListener]:
    """Serve on `host:port` or `unix:/path`. Raises ConfigError where it cannot be bound."""
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(application, access_log=None)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        try:
            if address.startswith("unix:"):
                await web.UnixSite(runner, address.removeprefix("unix:")).start()
                opened = AdminListener(address, _speak_no_tls)
            else:
                assert runner.server is not None  # it is set up
                socket = bound(*host_and_port(address))
                listener = RenewableListener(socket, runner.server)
                stack.callback(listener.close)
                await listener.serve(context)
                opened = AdminListener(_name(socket.getsockname()), listener.serve)
        except OSError as error:
            raise ConfigError([f'listen.admin: cannot listen on "{address}": {why_not_bound(error)}']) from error
        yield opened


def admin_context(tls: AdminTls | None) -> ssl.SSLContext | None:
    """What `admin.tls` needs; None without it. Raises ConfigError for files that cannot be used."""
    if tls is None:
        return None
    files = TLS(Path(tls.cert), Path(tls.key), Path(tls.client_ca) if tls.client_ca else None)
    # Who shows none may still have a token, and a probe has neither.
    return server_context(files, "admin.tls", clients=ssl.CERT_OPTIONAL)


async def _speak_no_tls(_: ssl.SSLContext | None) -> None:
    """Who may open the socket is the file system's to say."""


def _name(bound: tuple[str, int]) -> str:
    host, port = bound[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
