# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Where Redis is: one server, the primary that Sentinels name, or the nodes of a cluster.

    commands -> the server that answers for their keys -> replies, each a value or what was wrong with it

A reply that says that the address is the wrong one drops the connections, and the next try looks the address up anew;
where nothing was done yet, that is at once. A cluster's MOVED and ASK are followed. Beyond that nothing is sent twice:
whether a command may be repeated only its caller knows. Deadlines are the caller's too.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final, Protocol

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError

from wissel.runtime.redis_url import Address, RedisUrl
from wissel.store.health import CONDITIONS, UnwellError, state_of, translated

Word = str | bytes | int | float
"""One argument of a command."""

Command = Sequence[Word]

Reply = Any
"""A value, or what kept Redis from giving one; an UnwellError where it leaves this module."""

_MOST_CONNECTIONS: Final = 32
_MOST_HOPS: Final = 5
"""MOVED for one command; more are a table that somebody is just changing."""
_PAUSE: Final = 0.01
"""Seconds until a command is tried again whose keys are just moving."""
_LOOK_AGAIN: Final = 1.0
"""Seconds after which Sentinels are asked again, though nothing is wrong with the primary that they named: one that was
replaced takes changes, which will be lost, until somebody tells it."""
_MAP_LASTS: Final = 0.2
"""Seconds for which a cluster's table is not asked for again, whatever is wrong with it."""


class Nodes(Protocol):
    """Redis, wherever it is."""

    @property
    def breaks(self) -> int:
        """How often an address failed or led elsewhere: after each, what was confirmed shortly before may be lost."""
        ...

    async def ask(self, commands: Sequence[Command], *, atomic: bool) -> list[Reply]:
        """The reply to each command, in order; `atomic` ones have their keys in one slot and nothing in between."""
        ...

    async def close(self) -> None: ...


def nodes(url: RedisUrl) -> Nodes:
    """Nothing is connected yet."""
    match url.kind:
        case "single":
            return Single(url)
        case "sentinel":
            return Sentinels(url)
        case "cluster":
            return RedisCluster(url)


class RedisServer:
    """A pool of connections to one address."""

    def __init__(self, url: RedisUrl, address: Address | None, *, username: str | None, password: str | None) -> None:
        self.where: Final = url.path if address is None else f"{address[0]}:{address[1]}"
        place: dict[str, Any] = {"path": url.path} if address is None else {"host": address[0], "port": address[1]}
        kind = UnixDomainSocketConnection if address is None else SSLConnection if url.tls is not None else Connection
        tls: dict[str, Any] = dict(url.tls or {})
        if "ssl_check_hostname" in tls:
            tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() not in {"0", "no", "false"}
        self._options: Final = {
            "connection_class": kind,
            "max_connections": _MOST_CONNECTIONS,
            "timeout": None,  # who waits for a connection waits until the call's own deadline
            "decode_responses": True,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            # Its own timeouts are `asyncio.wait_for`, which in Python 3.11 may swallow a cancellation.
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "username": username,
            "password": password,
            "db": url.db,
            **place,
            **tls,
        }
        self._pool = _Pool(self._options)

    async def ask(self, commands: Sequence[Command], *, atomic: bool = False) -> list[Reply]:
        """As `Nodes` do, from this server."""
        pool = self._pool
        pool.users += 1
        try:
            async with pool.redis.pipeline(transaction=atomic) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, UnicodeError) as problem:
            return [problem] * len(commands)
        finally:
            pool.users -= 1
            await pool.end_if_dropped()

    async def ask_guest(self, commands: Sequence[Command]) -> list[Reply]:
        """One transaction, on keys of a slot that this node is only just being given."""
        replies = await self.ask([("ASKING",), ("MULTI",), *commands, ("EXEC",)])
        wrong = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if wrong is not None:
            return [wrong] * len(commands)
        readers = self._pool.redis.response_callbacks
        return [
            readers[name](reply) if (name := str(command[0])) in readers else reply
            for command, reply in zip(commands, replies[-1], strict=True)
        ]

    async def drop(self) -> None:
        """Let go of every connection; calls under way keep theirs until they end."""
        dropped, self._pool = self._pool, _Pool(self._options)
        dropped.is_dropped = True
        await dropped.end_if_dropped()

    async def close(self) -> None:
        await self._pool.redis.aclose()


class _Pool:
    def __init__(self, options: dict[str, Any]) -> None:
        self.redis: Redis = Redis.from_pool(BlockingConnectionPool(**options))
        self.users = 0
        self.is_dropped = False

    async def end_if_dropped(self) -> None:
        if self.is_dropped and not self.users:
            await self.redis.aclose()


class Single:
    """One server at an address that somebody else may lead to another one."""

    def __init__(self, url: RedisUrl) -> None:
        address = url.addresses[0] if url.addresses else None
        self._server = RedisServer(url, address, username=url.username, password=url.password)
        self.breaks = 0

    async def ask(self, commands: Sequence[Command], *, atomic: bool) -> list[Reply]:
        replies = await self._server.ask(commands, atomic=atomic)
        if any(_drops(reply) for reply in replies):
            self.breaks += 1
            await self._server.drop()
            replies = await _once_more(self._server, commands, replies, atomic=atomic)
        return _told(commands, replies, self._server)

    async def close(self) -> None:
        await self._server.close()


class Sentinels:
    """The primary that Sentinels name."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        asked = [(each, url.sentinel_username, url.sentinel_password) for each in url.addresses]
        no_db = RedisUrl(url.kind, url.addresses, tls=url.tls)
        self._sentinels = [RedisServer(no_db, each, username=user, password=password) for each, user, password in asked]
        self._primary: RedisServer | None = None
        self._looked_at = 0.0
        self._looking: asyncio.Task[RedisServer] | None = None
        self.breaks = 0

    async def ask(self, commands: Sequence[Command], *, atomic: bool) -> list[Reply]:
        try:
            primary = await self._found()
        except UnwellError as problem:
            return [problem] * len(commands)
        replies = await primary.ask(commands, atomic=atomic)
        if any(_drops(reply) for reply in replies):
            self.breaks += 1
            await primary.drop()
            self._looked_at = 0.0
            try:
                replies = await _once_more(await self._found(), commands, replies, atomic=atomic)
            except UnwellError as problem:
                # What the Sentinels say of it is the nearer truth.
                return [problem if _drops(reply) else reply for reply in _told(commands, replies, primary)]
        return _told(commands, replies, primary)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for server in [*self._sentinels, *([self._primary] if self._primary else [])]:
            await server.close()

    async def _found(self) -> RedisServer:
        if self._primary is not None and monotonic() - self._looked_at < _LOOK_AGAIN:
            return self._primary
        is_stale = self._looked_at == 0.0 or self._primary is None
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(_heard)
        if not is_stale and self._primary is not None:
            # A primary that was cut off from its Sentinels says nothing of it: nobody waits for this look.
            return self._primary
        # All who wait share the look, and who stops waiting does not end it.
        return await asyncio.shield(self._looking)

    async def _look(self) -> RedisServer:
        problem = UnwellError("SENTINEL", "nomaster")
        for sentinel in tuple(self._sentinels):
            command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.name)
            try:
                async with asyncio.timeout(_PAUSE * 50):
                    (reply,) = await sentinel.ask([command])
            except TimeoutError as error:
                reply = error
            if isinstance(reply, Exception):
                problem = UnwellError("SENTINEL", state_of(reply), f"Sentinel {sentinel.where}")
                continue
            if reply is None:
                continue
            host, port = reply
            # Who answered is asked first from now on.
            self._sentinels.sort(key=lambda each: each is not sentinel)
            return await self._take((host, int(port)))
        raise problem

    async def _take(self, address: Address) -> RedisServer:
        self._looked_at = monotonic()
        before = self._primary
        if before is None or before.where != f"{address[0]}:{address[1]}":
            self._primary = RedisServer(self._url, address, username=self._url.username, password=self._url.password)
            if before is not None:
                self.breaks += 1
                await before.drop()
                await before.close()
        assert self._primary is not None
        return self._primary


class RedisCluster:
    """The nodes of a cluster, each asked for the keys that are its own."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._servers: dict[Address, RedisServer] = {}
        self._slots: dict[int, Address] = {}
        self._mapped_at = 0.0
        self._mapping: asyncio.Task[None] | None = None
        self.breaks = 0

    async def ask(self, commands: Sequence[Command], *, atomic: bool) -> list[Reply]:
        if not self._slots:
            await self._map()
        if atomic:
            return await self._together(commands)
        replies: list[Reply] = [None] * len(commands)
        groups: dict[Address, list[int]] = {}
        for at, command in enumerate(commands):
            groups.setdefault(self._address(command), []).append(at)

        async def ask_group(address: Address, group: list[int]) -> None:
            found = await self._server(address).ask([commands[at] for at in group])
            for at, reply in zip(group, found, strict=True):
                replies[at] = reply

        await asyncio.gather(*(ask_group(*each) for each in groups.items()))
        for at, command in enumerate(commands):
            if isinstance(replies[at], Exception):
                found = await self._followed(command, replies[at])
                (replies[at],) = _told([command], [found], self._server(self._address(command)))
        return replies

    async def close(self) -> None:
        if self._mapping is not None:
            self._mapping.cancel()
            await asyncio.wait([self._mapping])
        for server in self._servers.values():
            await server.close()

    async def _followed(self, command: Command, reply: Reply) -> Reply:
        """The reply of the node that has the keys, wherever the first one sends us."""
        hops = 0
        while hops < _MOST_HOPS:
            match reply:
                case MovedError():
                    hops += 1
                    self._slots[_slot(command)] = to = (reply.host, reply.port)
                    self._mapped_at = 0.0
                    (reply,) = await self._server(to).ask([command])
                    await self._map()
                case AskError():
                    to = (reply.host, reply.port)
                    _, reply = await self._server(to).ask([("ASKING",), command])
                case Exception() if state_of(reply) == "moving":
                    # Some of its keys are here and some there; who asks has a deadline.
                    await asyncio.sleep(_PAUSE)
                    (reply,) = await self._server(self._address(command)).ask([command])
                case Exception() if _drops(reply):
                    await self._forget(self._address(command))
                    return reply
                case _:
                    return reply
        return reply

    async def _together(self, commands: Sequence[Command]) -> list[Reply]:
        """One transaction. Keys of which some are here and some there can be asked nowhere, and are waited for."""
        hops = 0
        while True:
            address = self._address(commands[0])
            server = self._server(address)
            replies = await server.ask(commands, atomic=True)
            wrong = next((reply for reply in replies if isinstance(reply, Exception)), None)
            if isinstance(wrong, AskError) and not isinstance(wrong, MovedError):
                server = self._server((wrong.host, wrong.port))
                replies = await server.ask_guest(commands)
                wrong = next((reply for reply in replies if isinstance(reply, Exception)), None)
            if isinstance(wrong, MovedError) and hops < _MOST_HOPS:
                hops += 1
                self._slots[_slot(commands[0])] = (wrong.host, wrong.port)
            elif wrong is not None and state_of(wrong) == "moving":
                await asyncio.sleep(_PAUSE)
            else:
                if wrong is not None and _drops(wrong):
                    await self._forget(address)
                return _told(commands, replies, server)

    def _address(self, command: Command) -> Address:
        slot = _slot(command)
        return self._slots.get(slot) or next(iter(self._slots.values()), self._url.addresses[0])

    def _server(self, address: Address) -> RedisServer:
        server = self._servers.get(address)
        if server is None:
            server = RedisServer(self._url, address, username=self._url.username, password=self._url.password)
            self._servers[address] = server
        return server

    async def _forget(self, address: Address) -> None:
        """What is wrong there may be so because another node has taken over."""
        self.breaks += 1
        if address in self._servers:
            await self._servers[address].drop()
        await self._map()

    async def _map(self) -> None:
        """Learn which node has which slots, unless that was just asked."""
        if monotonic() - self._mapped_at < _MAP_LASTS:
            return
        if self._mapping is None or self._mapping.done():
            self._mapping = asyncio.create_task(self._ask_for_map())
        await asyncio.shield(self._mapping)

    async def _ask_for_map(self) -> None:
        known = dict.fromkeys([*self._slots.values(), *self._url.addresses])
        for address in known:
            try:
                async with asyncio.timeout(_PAUSE * 50):
                    (reply,) = await self._server(address).ask([("CLUSTER", "SLOTS")])
            except TimeoutError:
                continue
            found = {} if isinstance(reply, Exception) else _slots_of(reply, address)
            if found:
                self._slots = found
                self._mapped_at = monotonic()
                return
        self._mapped_at = monotonic()


def _slots_of(reply: Any, asked: Address) -> dict[int, Address]:
    """Of CLUSTER SLOTS: [first, last, [host, port, …] of the primary, its replicas…] for each range."""
    found: dict[int, Address] = {}
    for first, last, (host, port, *_), *_ in reply:
        # A node that does not know its own name is where it was asked.
        found.update(dict.fromkeys(range(int(first), int(last) + 1), (host or asked[0], int(port))))
    return found


def _slot(command: Command) -> int:
    key = _key(command)
    return -1 if key is None else key_slot(str(key).encode())


def _key(command: Command) -> Word | None:
    """The command's first key, which says where it goes; None where any node will do."""
    match command[0]:
        case "EVALSHA" | "EVAL":
            return command[3] if command[2] else None
        case "XREAD":
            return command[command.index("STREAMS") + 1]
        case _:
            return command[1] if len(command) > 1 else None


async def _once_more(
    server: RedisServer, commands: Sequence[Command], replies: list[Reply], *, atomic: bool
) -> list[Reply]:
    """What was not done and may be done now, where the address leads by now."""
    if atomic:
        return await server.ask(commands, atomic=True) if all(_may_again(reply) for reply in replies) else replies
    again = [at for at, reply in enumerate(replies) if _may_again(reply)]
    if again:
        for at, reply in zip(again, await server.ask([commands[at] for at in again]), strict=True):
            replies[at] = reply
    return replies


def _drops(reply: Reply) -> bool:
    return isinstance(reply, Exception) and CONDITIONS[state_of(reply)].drops


def _may_again(reply: Reply) -> bool:
    state = state_of(reply) if isinstance(reply, Exception) else "ok"
    return CONDITIONS[state].again and CONDITIONS[state].drops


def _told(commands: Sequence[Command], replies: list[Reply], server: RedisServer) -> list[Reply]:
    """Each problem in our own words, with the server that it is about."""
    return [
        translated(str(command[0]), reply, server.where) if isinstance(reply, Exception) else reply
        for command, reply in zip(commands, replies, strict=True)
    ]


def _heard(look: "asyncio.Task[RedisServer]") -> None:
    """A look that nobody waits for may fail: the primary of before is asked on."""
    if not look.cancelled():
        look.exception()
