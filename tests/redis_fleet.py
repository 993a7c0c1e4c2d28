"""Several redis-servers that belong together, each of which a test can kill, freeze and change: real ones, on loopback.

Node       one server, by TCP
Alone      one of them, as `redis://`
Watched    a primary, its replica, and three Sentinels that watch over them
Clustered  three primaries of a cluster
"""

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.crc import key_slot

SLOTS = 16_384


def free_port() -> int:
    """One whose cluster bus, 10,000 above, is free too."""
    while True:
        with contextlib.closing(socket.socket()) as probe, contextlib.closing(socket.socket()) as bus:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port + 10_000 >= 1 << 16:
                continue
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def wait_for(what: Callable[[], Any], why: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError):
            if what():
                return
        assert time.monotonic() < deadline, why
        time.sleep(0.02)


class Node:
    """One server; what is killed finds its data again."""

    def __init__(self, binary: str, home: Path, *words: str, port: int = 0) -> None:
        self._binary = binary
        self._home = home
        self._words = words
        self.port = port or free_port()
        home.mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self._client = redis.Redis(port=self.port, decode_responses=True, protocol=2, retry=None)

    def start(self, *more: str) -> None:
        self.begin(*more)
        wait_for(lambda: self._client.ping() in {True, "PONG"}, f"{self._binary} does not answer")

    def begin(self, *more: str) -> None:
        """Start it without waiting until it answers."""
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._home), *self._words, *more]
        with (self._home / "log").open("ab") as log:
            self.process = subprocess.Popen([self._binary, *words], stdout=log, stderr=log)

    def kill(self) -> None:
        """With SIGKILL: it cannot save a thing."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def ask(self, *words: str | int | bytes) -> Any:
        """Raises redis.RedisError."""
        return self._client.execute_command(*words)

    def close(self) -> None:
        self._client.close()
        self.kill()


class Fleet:
    """What all kinds have in common."""

    def __init__(self, binary: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="wissel-redis-")
        self.home = Path(self._folder.name)
        self.binary = binary
        self.nodes: list[Node] = []
        """Those that hold data."""
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self.begin()
        except BaseException:
            self.close()
            raise
        return self

    def begin(self) -> None:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for node in self.all_nodes():
            node.close()
        self._folder.cleanup()

    def all_nodes(self) -> list[Node]:
        return self.nodes

    def node(self, name: str, *words: str, port: int = 0) -> Node:
        kept = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--repl-diskless-sync-delay", "0")
        return Node(self.binary, self.home / name, *kept, *words, port=port)

    def primaries(self) -> list[Node]:
        """Those that take changes."""
        return self.nodes

    def url_as(self, user: str, password: str) -> str:
        return self.url.replace("://", f"://{user}:{password}@")


class Alone(Fleet):
    def begin(self) -> None:
        self.nodes = [self.node("one")]
        self.nodes[0].start()
        self.url = f"redis://127.0.0.1:{self.nodes[0].port}/0"


class Watched(Fleet):
    """Sentinels notice within a second that the primary is away."""

    NAME = "main"

    sentinels: list[Node]

    def begin(self) -> None:
        self.sentinels = []
        self.nodes = [first, second] = [self.node("a"), self.node("b")]
        for node in self.nodes:
            node.start()
        second.ask("REPLICAOF", "127.0.0.1", first.port)
        wait_for(lambda: second.ask("INFO", "replication")["master_link_status"] == "up", "no replica")
        self.sentinels += [self._sentinel(number, first.port) for number in range(3)]
        wait_for(lambda: all(self._sees_all(each) for each in self.sentinels), "the Sentinels do not find each other")
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{self.NAME}/0"

    def _sentinel(self, number: int, primary: int) -> Node:
        home = self.home / f"sentinel-{number}"
        home.mkdir()
        config = home / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {self.NAME} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {self.NAME} 800\nsentinel failover-timeout {self.NAME} 3000\n"
        )
        node = Node(self.binary, home)
        words = [
            self.binary,
            str(config),
            "--port",
            str(node.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(home),
            "--sentinel",
        ]
        with (home / "log").open("ab") as log:
            node.process = subprocess.Popen(words, stdout=log, stderr=log, cwd=home)
        wait_for(lambda: node.ask("PING"), "a Sentinel does not answer")
        return node

    def _sees_all(self, sentinel: Node) -> bool:
        flat = sentinel.ask("SENTINEL", "MASTER", self.NAME)
        seen = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        return int(seen["num-slaves"]) >= 1 and int(seen["num-other-sentinels"]) == 2

    def all_nodes(self) -> list[Node]:
        return [*self.sentinels, *self.nodes]

    def primaries(self) -> list[Node]:
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)
        return [node for node in self.nodes if node.port == int(port)]

    def failover(self) -> None:
        """By the Sentinels, as an operator would; the old primary becomes the replica of the new one."""
        (before,) = self.primaries()
        wait_for(self._ordered, "no failover is begun")
        wait_for(lambda: self.primaries() != [before], "no failover")

    def _ordered(self) -> bool:
        return self.sentinels[0].ask("SENTINEL", "FAILOVER", self.NAME) in {"OK", True}


class Clustered(Fleet):
    """Every node has a third of the slots, and there are no replicas."""

    def begin(self) -> None:
        words = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        self.nodes = [self.node(f"n{number}", *words) for number in range(3)]
        for number, node in enumerate(self.nodes):
            node.start()
            slots = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
            node.ask("CLUSTER", "ADDSLOTS", *slots)
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        self.until_whole()
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def until_whole(self) -> None:
        wait_for(lambda: all(self._is_whole(node) for node in self.nodes), "the cluster does not become whole")

    @staticmethod
    def _is_whole(node: Node) -> bool:
        state = node.ask("CLUSTER", "INFO")
        told = state if isinstance(state, dict) else dict(line.split(":") for line in state.split())
        return (
            told["cluster_state"] == "ok"
            and told["cluster_slots_ok"] == str(SLOTS)
            and told["cluster_known_nodes"] == "3"
        )

    def owner(self, key: str) -> Node:
        """The node that has the key's slot."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            slots = node.ask("CLUSTER", "NODES")
            text = (
                slots
                if isinstance(slots, str)
                else "\n".join(
                    f"{at} {'myself' if 'myself' in each['flags'] else ''} "
                    + " ".join("-".join(map(str, ends)) for ends in each["slots"])
                    for at, each in slots.items()
                )
            )
            mine = next(line for line in text.splitlines() if "myself" in line)
            for word in mine.split()[1:]:
                first, _, last = word.partition("-")
                if first.isdecimal() and (not last or last.isdecimal()) and int(first) <= slot <= int(last or first):
                    return node
        raise AssertionError(key)

    def move_slot(self, key: str, *, pause: float = 0.0) -> Iterator[str]:
        """Give the slot of `key` to another node, as `redis-cli --cluster reshard` does; yields after each step."""
        slot, source = key_slot(key.encode()), self.owner(key)
        target = next(node for node in self.nodes if node is not source)
        ids = {node: node.ask("CLUSTER", "MYID") for node in self.nodes}
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        yield "begun"
        while names := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
            time.sleep(pause)
            yield "moving"
        for node in (target, source, *self.nodes):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        yield "moved"


KINDS: dict[str, type[Fleet]] = {"alone": Alone, "sentinel": Watched, "cluster": Clustered}
