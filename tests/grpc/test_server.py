"""The server met by grpcio, over real sockets."""

import asyncio
import datetime as dt
import ipaddress
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

import grpc
from wissel.errors import ConfigError
from wissel.grpc.server import Call, Limits, Server, ServingStatus, Status
from wissel.runtime.tls import TLS

ECHO = "/test.Test/Echo"
SERVICE = "test.Test"


class Echo:
    """Sends every message back; ends with the client."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def message(self, data: bytes) -> None:
        if data != b"silence":
            self.call.send(data)

    def half_closed(self) -> None:
        self.call.finish(Status.ABORTED, "größer") if self.call.method.endswith("Abort") else self.call.finish()

    def gone(self) -> None:
        endings.append(self.call.method)


endings: list[str] = []
"""The methods of the streams that are gone."""


@pytest.fixture(autouse=True)
def _forget_endings() -> None:
    endings.clear()


@asynccontextmanager
async def serving(
    address: str = "127.0.0.1:0", tls: TLS | None = None, limits: Limits | None = None
) -> AsyncIterator[tuple[Server, str]]:
    server = Server({ECHO: Echo, "/test.Test/Abort": Echo}, services=[SERVICE], limits=limits)
    server.health.set(ServingStatus.SERVING)
    bound = await server.start(address, tls)
    try:
        yield server, bound
    finally:
        await server.drain(0)


def channel(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if credentials:
        return grpc.aio.secure_channel(address, credentials, options=options)
    return grpc.aio.insecure_channel(address, options=options)


async def echo(client: grpc.aio.Channel, *messages: bytes) -> list[bytes]:
    call = client.stream_stream(ECHO)()
    answers: list[bytes] = []
    for message in messages:
        await call.write(message)
        answers.append(await call.read())
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    return answers


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.005)


# calls


async def test_messages_are_answered_one_by_one():
    async with serving() as (_, address), channel(address) as client:
        assert await echo(client, b"one", b"", b"three") == [b"one", b"", b"three"]
    assert endings == [ECHO]


async def test_a_unary_call_is_a_short_stream():
    async with serving() as (_, address), channel(address) as client:
        assert await client.unary_unary(ECHO)(b"hello") == b"hello"


async def test_many_streams_share_a_connection():
    async with serving() as (server, address), channel(address) as client:
        answers = await asyncio.gather(*(echo(client, b"%d" % n) for n in range(200)))

        assert answers == [[b"%d" % n] for n in range(200)]
        assert server.connections == 1
    assert len(endings) == 200


async def test_a_message_of_megabytes_comes_back_whole():
    message = os.urandom(3 << 20)
    async with serving() as (_, address), channel(address) as client:
        assert await echo(client, message) == [message]


@pytest.mark.slow
async def test_a_message_of_64_megabytes_comes_back_whole():
    message = os.urandom(1 << 20) * 64
    async with serving() as (_, address), channel(address) as client:
        assert await echo(client, message) == [message]


async def test_a_status_and_its_message_reach_the_client():
    async with serving() as (_, address), channel(address) as client:
        call = client.stream_stream("/test.Test/Abort")()
        await call.done_writing()

        assert (await call.code(), await call.details()) == (grpc.StatusCode.ABORTED, "größer")


async def test_an_unknown_method_is_unimplemented():
    async with serving() as (_, address), channel(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.unary_unary("/test.Test/No")(b"")
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_compressed_message_is_unimplemented():
    async with serving() as (_, address), channel(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.unary_unary(ECHO)(b"x" * 1000, compression=grpc.Compression.Gzip)
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_over_the_limit_is_refused():
    async with serving(limits=Limits(message_bytes=100)) as (_, address), channel(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.unary_unary(ECHO)(bytes(101))
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_deadline_ends_the_stream_on_both_sides():
    async with serving() as (_, address), channel(address) as client:
        call = client.stream_stream(ECHO)(timeout=0.05)
        await call.write(b"silence")

        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: endings == [ECHO])


async def test_a_cancelled_stream_is_gone():
    async with serving() as (_, address), channel(address) as client:
        call = client.stream_stream(ECHO)()
        await call.write(b"hello")
        await call.read()
        call.cancel()

        await eventually(lambda: endings == [ECHO])


async def test_streams_of_a_client_that_hangs_up_are_gone():
    async with serving() as (server, address):
        async with channel(address) as client:
            call = client.stream_stream(ECHO)()
            await call.write(b"hello")
            await call.read()
        del call  # which keeps grpcio's connection open

        await eventually(lambda: endings == [ECHO] and server.connections == 0)


# health


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_is_asked_by_name(service: str):
    async with serving() as (server, address), channel(address) as client:
        check = health_pb2_grpc.HealthStub(client).Check
        request = health_pb2.HealthCheckRequest(service=service)

        assert (await check(request)).status == ServingStatus.SERVING
        server.health.set(ServingStatus.NOT_SERVING)
        assert (await check(request)).status == ServingStatus.NOT_SERVING


async def test_health_of_an_unknown_name_is_not_found():
    async with serving() as (_, address), channel(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await health_pb2_grpc.HealthStub(client).Check(health_pb2.HealthCheckRequest(service="no"))
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watch_hears_of_the_drain():
    async with serving() as (server, address), channel(address) as client:
        watch = health_pb2_grpc.HealthStub(client).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        heard = [(await watch.read()).status]
        await server.drain(1)
        heard.append((await watch.read()).status)

        assert heard == [ServingStatus.SERVING, ServingStatus.NOT_SERVING]
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE


# draining


async def test_a_drain_lets_open_streams_finish_and_takes_no_connection():
    async with serving() as (server, address), channel(address) as client:
        call = client.stream_stream(ECHO)()
        await call.write(b"one")
        await call.read()
        drained = asyncio.create_task(server.drain(5))
        await asyncio.sleep(0.05)
        await call.write(b"two")

        assert await call.read() == b"two"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await drained
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address.split(":"))


async def test_a_drain_without_streams_does_not_wait():
    async with serving() as (server, address), channel(address) as client:
        await echo(client, b"hello")

        async with asyncio.timeout(2):
            await server.drain(60)


async def test_streams_that_outlive_the_grace_are_ended():
    async with serving() as (server, address), channel(address) as client:
        call = client.stream_stream(ECHO)()
        await call.write(b"one")
        await call.read()
        await server.drain(0.05)

        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert endings == [ECHO]


# addresses


async def test_a_free_port_is_named():
    async with serving("127.0.0.1:0") as (_, address):
        host, _, port = address.rpartition(":")

        assert host == "127.0.0.1"
        assert int(port) > 0


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
async def test_ipv6_is_written_in_brackets():
    async with serving("[::1]:0") as (_, address), channel(address) as client:
        assert address.startswith("[::1]:")
        assert await echo(client, b"hello") == [b"hello"]


@pytest.mark.parametrize(
    "address", ["", "50051", "127.0.0.1:", "127.0.0.1:http", "no.such.host.invalid:1", "unix:/no/such/dir/s"]
)
async def test_an_address_that_cannot_be_bound_is_the_operators(address: str):
    with pytest.raises(ConfigError, match=f'listen.ext_proc: cannot listen on "{address}"'):
        await Server({}).start(address)


async def test_a_port_in_use_is_the_operators():
    async with serving() as (_, address):
        with pytest.raises(ConfigError, match=f'listen.ext_proc: cannot listen on "{address}": another program'):
            await Server({}).start(address)


async def test_a_unix_socket_has_its_mode_and_leaves_no_file(tmp_path: Path):
    path = tmp_path / "wissel.sock"
    async with serving(f"unix:{path}") as (_, address), channel(address) as client:
        assert address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert await echo(client, b"hello") == [b"hello"]
    assert not path.exists()


async def test_a_stale_socket_file_is_replaced(tmp_path: Path):
    path = tmp_path / "wissel.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serving(f"unix:{path}") as (_, address), channel(address) as client:
        assert await echo(client, b"hello") == [b"hello"]


async def test_a_socket_file_in_use_is_not_taken(tmp_path: Path):
    address = f"unix:{tmp_path / 'wissel.sock'}"
    async with serving(address):
        with pytest.raises(ConfigError, match="another process listens there"):
            await Server({}).start(address)


async def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="listen"):
        await Server({}).start(f"unix:{tmp_path / 'notes'}")

    assert (tmp_path / "notes").read_text() == "mine"


# TLS


@dataclass(frozen=True, slots=True)
class Pair:
    cert: bytes
    key: bytes
    signer: ec.EllipticCurvePrivateKey


def issue(name: str, issuer: tuple[str, Pair] | None = None) -> Pair:
    """A certificate for 127.0.0.1, self-signed or issued."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed_by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer[0])]) if issuer else subject
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[1].signer if issuer else key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(cert.public_bytes(serialization.Encoding.PEM), pem, key)


@dataclass(frozen=True, slots=True)
class Authority:
    ca: Pair
    client: Pair
    tls: TLS
    """Of the server, with no client_ca."""
    ca_file: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    ca = issue("ca")
    server, client = issue("server", ("ca", ca)), issue("client", ("ca", ca))
    for name, content in (("ca.pem", ca.cert), ("cert.pem", server.cert), ("key.pem", server.key)):
        (folder / name).write_bytes(content)
    return Authority(ca, client, TLS(folder / "cert.pem", folder / "key.pem"), folder / "ca.pem")


async def test_tls_is_spoken(authority: Authority):
    credentials = grpc.ssl_channel_credentials(authority.ca.cert)
    async with serving(tls=authority.tls) as (_, address), channel(address, credentials) as client:
        assert await echo(client, b"hello") == [b"hello"]


async def test_a_client_certificate_is_accepted(authority: Authority):
    credentials = grpc.ssl_channel_credentials(authority.ca.cert, authority.client.key, authority.client.cert)
    tls = replace(authority.tls, client_ca=authority.ca_file)
    async with serving(tls=tls) as (_, address), channel(address, credentials) as client:
        assert await echo(client, b"hello") == [b"hello"]


@pytest.mark.parametrize("stranger", [None, issue("stranger")])
async def test_without_the_right_client_certificate_nothing_is_served(authority: Authority, stranger: Pair | None):
    shown = (stranger.key, stranger.cert) if stranger else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.ca.cert, *shown)
    tls = replace(authority.tls, client_ca=authority.ca_file)
    async with serving(tls=tls) as (_, address), channel(address, credentials) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.unary_unary(ECHO)(b"hello", timeout=5)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert endings == []


async def test_tls_files_that_cannot_be_used_are_the_operators(authority: Authority, tmp_path: Path):
    (tmp_path / "empty").touch()
    starts: list[tuple[TLS, str]] = [
        (replace(authority.tls, cert=tmp_path / "none"), "listen.tls: cannot use"),
        (replace(authority.tls, key=authority.tls.cert), "listen.tls: cannot use"),
        (replace(authority.tls, client_ca=tmp_path / "empty"), "listen.tls.client_ca: cannot use"),
    ]
    for tls, complaint in starts:
        attempt: Awaitable[str] = Server({}).start("127.0.0.1:0", tls)
        with pytest.raises(ConfigError, match=complaint):
            await attempt
