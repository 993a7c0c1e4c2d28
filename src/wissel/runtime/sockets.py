"""Listening sockets, bound before anything is served on them."""

import socket


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens on TCP; `::` takes IPv4 as well, as it does for Envoy and most servers.

    Raises OSError where the address cannot be had.
    """
    family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(where[:2], family=family, dualstack_ipv6=both)
