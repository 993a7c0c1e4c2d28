"""A listening socket whose way of speaking TLS may change while it takes connections.

The authorities in an `SSLContext` cannot be taken back, and sessions that began
under it may be resumed. So a change makes a new context and a new server on a
duplicate of the same socket; who waits to be accepted waits on.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable


class RenewableListener:
    """Takes connections on `listening`, which it owns, and makes a `protocol` for each."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        *,
        handshake: float | None = None,
    ) -> None:
        self._socket = listening
        self._protocol = protocol
        self._handshake = handshake
        self._server: asyncio.Server | None = None

    async def serve(self, context: ssl.SSLContext | None) -> None:
        """Speak TLS by `context`, or none, with whoever connects from now on; open connections stay as they are."""
        server = await asyncio.get_running_loop().create_server(
            self._protocol,
            sock=self._socket.dup(),
            ssl=context,
            ssl_handshake_timeout=self._handshake if context else None,
            start_serving=False,
        )
        before, self._server = self._server, server
        if before is not None:
            before.close()
        await server.start_serving()

    def close(self) -> None:
        """Take no more connections; open ones stay."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
