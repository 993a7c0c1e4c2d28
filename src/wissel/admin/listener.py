"""An admin application, listening as long as a block of code runs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from wissel.config import host_and_port
from wissel.errors import ConfigError


@asynccontextmanager
async def listening(application: web.Application, address: str) -> AsyncGenerator[str]:
    """Serve on `host:port` or `unix:/path`, and hand out the address as bound.

    Raises ConfigError where it cannot be bound.
    """
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site: web.BaseSite
        if address.startswith("unix:"):
            site = web.UnixSite(runner, address.removeprefix("unix:"))
        else:
            site = web.TCPSite(runner, *host_and_port(address))
        try:
            await site.start()
        except OSError as error:
            raise ConfigError([f'listen.admin: cannot listen on "{address}": {error.strerror}']) from error
        yield _name(runner.addresses[0])
    finally:
        await runner.cleanup()


def _name(bound: str | tuple[str, int]) -> str:
    if isinstance(bound, str):
        return f"unix:{bound}"
    host, port = bound[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
