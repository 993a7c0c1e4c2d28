import socket

import pytest

from wissel.runtime.sockets import bound


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no dual stack here")
def test_the_ipv6_wildcard_takes_ipv4_too():
    with bound("::", 0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connected:
            found = connected.getpeername()

    assert found == ("127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_host_is_bound_by_name_or_number(host):
    with bound(host, 0) as listening:
        assert listening.getsockname()[1] > 0
