"""A gRPC server for asyncio: listens, hands streams to their methods, drains.

A message is answered in the turn of the event loop that read it; there are no
threads and no tasks. Nothing here knows what the messages mean.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from wissel.errors import ConfigError, why_not_bound
from wissel.grpc.bounds import Limits
from wissel.grpc.call import Call, Method, Receiver
from wissel.grpc.connection import Connection, Shared
from wissel.grpc.frames import Status
from wissel.grpc.health import HealthService, ServingStatus
from wissel.runtime.listener import RenewableListener
from wissel.runtime.sockets import bound
from wissel.runtime.tls import TLS, server_context

__all__ = ["Call", "HealthService", "Limits", "Method", "Receiver", "Server", "ServingStatus", "Status"]

_log = logging.getLogger(__name__)


def log_error(error: Exception, where: str) -> None:
    """Log a bug with its traceback; `where` is the method, or empty for the connection itself."""
    _log.error("stream failed: %s", where or "connection", exc_info=error)


class Server:
    """Serves `methods`, and gRPC's health service for the names in `services`.

    The health service says NOT_SERVING until `health.set` is told otherwise.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        services: Iterable[str] = (),
        limits: Limits | None = None,
        on_error: Callable[[Exception, str], None] = log_error,
    ) -> None:
        self.health = HealthService(services)
        self._shared = Shared({**methods, **self.health.methods}, limits or Limits(), on_error)
        self._listener: RenewableListener | None = None
        self._socket_file: Path | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._shared.connections)

    async def start(self, address: str, tls: TLS | None = None, *, socket_mode: int = 0o660) -> str:
        """Listen on `host:port`, `[host]:port` or `unix:/path`; the address as bound.

        A socket file that nobody listens on is replaced; a new one gets
        `socket_mode`. Raises ConfigError where the address cannot be bound or
        the TLS files cannot be used.
        """
        context = _tls_context(tls) if tls else None
        try:
            listening = _listen(address, socket_mode)
        except (OSError, ValueError) as error:
            raise ConfigError([f'listen.ext_proc: cannot listen on "{address}": {why_not_bound(error)}']) from error
        if listening.family == socket.AF_UNIX:
            self._socket_file = Path(listening.getsockname())
        self._listener = RenewableListener(
            listening, lambda: Connection(self._shared), handshake=self._shared.limits.handshake
        )
        await self._listener.serve(context)
        return _name(listening)

    async def renew(self, tls: TLS | None) -> None:
        """Read the files of `tls` again, for whoever connects from now on; open connections stay.

        Raises ConfigError where they cannot be used, and then those that were read before go on.
        """
        context = _tls_context(tls) if tls else None
        if self._listener is not None:
            await self._listener.serve(context)

    async def drain(self, grace: float) -> None:
        """Say NOT_SERVING, take no more streams, give the open ones `grace` seconds, and close."""
        self.health.set(ServingStatus.NOT_SERVING)
        self.health.dismiss()
        self._shared.draining = True
        if self._listener is not None:
            self._listener.close()
        if self._socket_file is not None:
            self._socket_file.unlink(missing_ok=True)
        for connection in self._shared.connections:
            connection.drain()
        await self._until_closed(grace)
        for connection in self._shared.connections:
            connection.shut_down()
        await self._until_closed(1.0)
        for connection in self._shared.connections:
            connection.abort()
        await self._until_closed(1.0)

    async def _until_closed(self, patience: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._shared.connections:
                    await asyncio.wait([connection.closed for connection in self._shared.connections])


def _listen(address: str, socket_mode: int) -> socket.socket:
    if address.startswith("unix:"):
        return _listen_unix(Path(address.removeprefix("unix:")), socket_mode)
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError("expected host:port or unix:/path")
    host = host.removeprefix("[").removesuffix("]")
    return bound(host, int(port))


def _listen_unix(path: Path, mode: int) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError("another process listens there")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX)
    # Born closed to all others, so that nobody slips in before it has its mode.
    umask = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(umask)
    path.chmod(mode)
    return listening


def _name(listening: socket.socket) -> str:
    bound = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{bound}"
    return f"[{bound[0]}]:{bound[1]}" if listening.family == socket.AF_INET6 else f"{bound[0]}:{bound[1]}"


def _tls_context(tls: TLS) -> ssl.SSLContext:
    context = server_context(tls, "listen.tls")
    # A client that offers no protocol is taken at its first bytes: Envoy offers none unless told to.
    context.set_alpn_protocols(["h2"])
    return context
