"""Everything that can happen to Redis, one after the other under load, and what is left of it afterwards.

    python -m tests.bench.redis_soak [--kinds alone,sentinel,cluster] [--failures killed,…] [--versions 7.0.15,…]

Two replicas, real but for Envoy, draw limits, count requests and run a rollout on a real Redis of each version that is
here: one server, a primary with its replica under three Sentinels, a cluster of three. For each thing that happens a
row says whether

    state    both said what was wrong, in the words of `/readyz` and the alert, and that it was over
    exact    every request that was served is counted once, whatever was lost meanwhile
    limits   never more places were held than Redis and the replicas' own parts give out, and none leaked
    abort    a rollout could be aborted within two seconds of Redis being whole

Exit 1 if a row fails.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog
from tests.redis_fleet import KINDS, Clustered, Fleet, Node, Watched, wait_for
from tests.redis_server import binaries

from wissel.config import compile_rollouts, load
from wissel.core.limits import Charge, Drawn, Exceeded, Used
from wissel.core.rollouts.rollout import Rollout
from wissel.errors import StoreError
from wissel.rollouts.replica import Fleet as Replicas
from wissel.rollouts.replica import running_fleet
from wissel.serving.gate import Gate, running_gate
from wissel.store.base import Scope
from wissel.store.connection import RedisConnection
from wissel.store.health import RedisHealth, State
from wissel.store.keys import Keys
from wissel.telemetry.counting import Telemetry

REPLICAS: Final = 2
CALLERS: Final = 6
PLACES: Final = Charge("places", "concurrent", "principal", "ada", 4, 0, 1)
REQUESTS: Final = Charge("all", "requests", "principal", "ada", 1_000_000, 60_000_000, 1)
SCOPE: Final = Scope("load", "r1")

ABORT_SECONDS: Final = 2.0
OVER_SECONDS: Final = 12.0
"""Within which everybody must know that all is well again."""
SETTLED_SECONDS: Final = 20.0

DOCUMENT: Final = """
redis: redis://unused
models: [{name: old, cluster: a}, {name: new, cluster: b}]
rollouts: [{name: chat, stable: old, canary: new, steps: [{set_weight: 10}, {pause: {}}]}]
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that happens, and how it ends; both wait until it has."""

    begin: Callable[[Fleet], None]
    end: Callable[[Fleet], None]
    says: frozenset[State]
    """What Redis may be meanwhile; empty where nobody needs to notice."""
    lasts: float = 2.0
    """Seconds in between."""


def _nothing(_: Fleet) -> None:
    """It is over by itself."""


def _each(*words: str | int) -> Callable[[Fleet], None]:
    def do(fleet: Fleet) -> None:
        for node in fleet.primaries():
            node.ask(*words)

    return do


def _victim(fleet: Fleet) -> Node:
    """The server that limits are drawn from."""
    if isinstance(fleet, Clustered):
        return fleet.owner(Keys("soak").replicas)
    return fleet.primaries()[0]


class _Lost:
    """The server that was taken away, until it comes back."""

    node: Node


def _kill(fleet: Fleet) -> None:
    _Lost.node = _victim(fleet)
    _Lost.node.kill()


def _come_back(fleet: Fleet) -> None:
    _Lost.node.start()
    _until_whole(fleet)


def _until_whole(fleet: Fleet) -> None:
    if isinstance(fleet, Clustered):
        fleet.until_whole()
    if isinstance(fleet, Watched):
        wait_for(lambda: fleet.primaries() and fleet.primaries()[0].ask("ROLE")[0] == "master", "no primary")


def _load_slowly(fleet: Fleet) -> None:
    """Kill it with much to read, and start it: it says LOADING for a second or two."""
    node = _Lost.node = _victim(fleet)
    tag = "{" + Keys("soak").replicas.partition("{")[2].partition("}")[0] + "}"
    node.ask("EVAL", f"for i=1,3000 do redis.call('SET','{tag}filler:'..i, string.rep('x',4000)) end", 1, f"{tag}x")
    node.ask("CONFIG", "SET", "rdbcompression", "no")
    node.ask("BGREWRITEAOF")
    wait_for(lambda: not _is_rewriting(node), "its file is not rewritten")
    node.kill()
    node.begin("--key-load-delay", "600")


def _is_rewriting(node: Node) -> bool:
    told = node.ask("INFO", "persistence")
    return bool(told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"])


def _until_loaded(fleet: Fleet) -> None:
    wait_for(lambda: _Lost.node.ask("PING") in {True, "PONG"}, "it is never loaded")
    _until_whole(fleet)


def _demote(fleet: Fleet) -> None:
    match fleet:
        case Watched():
            fleet.failover()
        case Clustered():
            for _ in fleet.move_slot(Keys("soak").replicas, pause=0.05):
                pass
        case _:
            fleet.nodes[0].ask("REPLICAOF", "127.0.0.1", 1)


def _promote(fleet: Fleet) -> None:
    if len(fleet.nodes) == 1:
        fleet.nodes[0].ask("REPLICAOF", "NO", "ONE")


def _flush(fleet: Fleet) -> None:
    for node in fleet.primaries():
        node.ask("FLUSHALL")
        node.ask("SCRIPT", "FLUSH")


_RIGHTS: Final = ("set", "hset", "zadd", "hincrby")
_AWAY: Final[frozenset[State]] = frozenset({"away", "clusterdown", "nomaster", "readonly", "masterdown", "loading"})

FAILURES: Final = {
    "killed": Failure(_kill, _come_back, _AWAY, lasts=4.0),
    "demoted": Failure(_demote, _promote, frozenset({"readonly"})),
    "full": Failure(_each("CONFIG", "SET", "maxmemory", 1), _each("CONFIG", "SET", "maxmemory", 0), frozenset({"oom"})),
    "flushed": Failure(_flush, _nothing, frozenset()),
    "loading": Failure(_load_slowly, _until_loaded, _AWAY, lasts=1.0),
    "without rights": Failure(
        _each("ACL", "SETUSER", "default", *(f"-{name}" for name in _RIGHTS)),
        _each("ACL", "SETUSER", "default", *(f"+{name}" for name in _RIGHTS)),
        frozenset({"noperm"}),
    ),
}


@dataclass(slots=True)
class Replica:
    """One of the replicas, as far as Redis concerns it."""

    gate: Gate
    fleet: Replicas
    health: RedisHealth
    seen: set[State] = field(default_factory=set[State])


@dataclass(slots=True)
class Load:
    """What the callers did."""

    served: int = 0
    refused: int = 0
    uncounted: int = 0
    held: int = 0
    most_held: int = 0
    is_on: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one thing."""

    version: str
    kind: str
    failure: str
    states: list[str]
    state: bool
    exact: bool
    limits: bool
    abort: bool
    abort_seconds: float
    detail: str

    @property
    def is_well(self) -> bool:
        return self.state and self.exact and self.limits and self.abort


@asynccontextmanager
async def replica(url: str, home: Path) -> AsyncGenerator[Replica]:
    health = RedisHealth()
    path = home / "wissel.yaml"
    path.write_text(DOCUMENT)
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(running_gate(url, "soak", lambda _: None, Telemetry(), health))
        running = running_fleet(url, "soak", lambda: None, data=home, health=health)
        fleet = await stack.enter_async_context(running)
        fleet.use(compile_rollouts(load(path)))
        yield Replica(gate, fleet, health)


async def soak(version: str, kind: str, failures: Sequence[str]) -> list[Row]:
    """One Redis, and all of these happening to it in turn."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="wissel-soak-") as home, KINDS[kind](binaries()[version]) as redis:
        async with AsyncExitStack() as stack:
            replicas: list[Replica] = []
            for number in range(REPLICAS):
                folder = Path(home) / str(number)
                folder.mkdir()
                replicas.append(await stack.enter_async_context(replica(redis.url, folder)))
            connection = RedisConnection(redis.url)
            stack.push_async_callback(connection.close)
            load = Load()
            tasks = [asyncio.create_task(_call(replicas[at % REPLICAS], load, at)) for at in range(CALLERS)]
            tasks.append(asyncio.create_task(_watch(replicas)))
            await _until(lambda: _phase(replicas[0]) is not None, 10.0)
            try:
                rows = [await _happens(version, kind, name, redis, replicas, load, connection) for name in failures]
            finally:
                load.is_on = False
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
    return rows


async def _happens(
    version: str, kind: str, name: str, redis: Fleet, replicas: list[Replica], load: Load, connection: RedisConnection
) -> Row:
    failure = FAILURES[name]
    await asyncio.sleep(1.0)
    load.most_held = load.held
    for each in replicas:
        each.seen.clear()
    await asyncio.to_thread(failure.begin, redis)
    await asyncio.sleep(failure.lasts)
    await asyncio.to_thread(failure.end, redis)
    took = await _abort(replicas[0])
    seen = {state for each in replicas for state in each.seen} - {"ok"}
    # A failover by Sentinels and a slot that moves are followed, and need not be noticed.
    may_pass = not failure.says or (name == "demoted" and kind != "alone")
    is_said = all(each.seen & failure.says for each in replicas) or may_pass
    is_over = await _until(lambda: all(each.health.state == "ok" for each in replicas), OVER_SECONDS)
    # A pause in the load, in which everything is brought to Redis.
    load.is_on = False
    is_idle = await _until(lambda: load.held == 0, 5.0)
    counted = 0

    async def is_exact() -> bool:
        nonlocal counted
        counted = await _counted(replicas[0])
        return counted == load.served

    exact = await _comes_true(is_exact, SETTLED_SECONDS)

    async def is_free() -> bool:
        return await connection.run("ZCARD", Keys("soak").meter(PLACES.key)) == 0

    is_free_again = await _comes_true(is_free, SETTLED_SECONDS)
    bound = 2 * PLACES.amount
    detail = f"{counted} of {load.served} counted, {load.most_held} of {bound} places held at most, over: {is_over}"
    held, load.is_on = load.most_held, True
    with suppress(StoreError):
        await replicas[0].fleet.controller.act("chat", "retry", by="soak")
    return Row(
        version,
        kind,
        name,
        sorted(seen),
        state=is_said and is_over and seen <= failure.says | _AWAY,
        exact=exact,
        limits=is_idle and is_free_again and held <= bound,
        abort=took <= ABORT_SECONDS,
        abort_seconds=round(took, 2),
        detail=detail,
    )


async def _call(replica: Replica, load: Load, number: int) -> None:
    """A caller that never stops: draws, is served for a few milliseconds, and is counted and settled."""
    limiter, recorder = replica.gate.limiter, replica.fleet.recorder
    while True:
        await asyncio.sleep(0.005)
        if not load.is_on:
            continue
        drawn = await limiter.draw((PLACES, REQUESTS), otherwise="local")
        if not isinstance(drawn, Drawn):
            load.refused += isinstance(drawn, Exceeded)
            continue
        load.held += 1
        load.most_held = max(load.most_held, load.held)
        ticket = recorder.began(SCOPE, "canary" if number % 2 else "stable", f"key-{load.served}")
        await asyncio.sleep(0.01)
        load.held -= 1
        load.served += 1
        ticket.ended()
        limiter.settle(drawn, Used(1, 1))


async def _watch(replicas: list[Replica]) -> None:
    while True:
        for each in replicas:
            each.seen.add(each.health.state)
        await asyncio.sleep(0.02)


async def _abort(replica: Replica) -> float:
    """Seconds until a rollout is aborted, tried again as a person would."""
    began = monotonic()
    while monotonic() - began < 10 * ABORT_SECONDS:
        with suppress(StoreError):
            if isinstance(await replica.fleet.controller.act("chat", "abort", by="soak"), Rollout):
                break
        await asyncio.sleep(0.05)
    return monotonic() - began


def _phase(replica: Replica) -> Any:
    return next((each.rollout for each in replica.fleet.progress()), None)


async def _counted(replica: Replica) -> int:
    try:
        found = await replica.fleet.counters.read(SCOPE, closed=False)
    except StoreError:
        return -1
    return sum(arm.served for arm in found.arms.values())


async def _until(what: Callable[[], bool], seconds: float) -> bool:
    async def told() -> bool:
        return what()

    return await _comes_true(told, seconds)


async def _comes_true(what: Callable[[], Any], seconds: float) -> bool:
    ends = monotonic() + seconds
    while True:
        with suppress(StoreError):
            if await what():
                return True
        if monotonic() > ends:
            return False
        await asyncio.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--failures", default=",".join(FAILURES))
    parser.add_argument("--versions", default=",".join(binaries()))
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("CRITICAL"))
    rows: list[Row] = []
    for version in words.versions.split(","):
        for kind in words.kinds.split(","):
            for row in asyncio.run(soak(version, kind, words.failures.split(","))):
                rows.append(row)
                marks = " ".join(f"{name}={'ok' if getattr(row, name) else 'FAILED'}" for name in _COLUMNS)
                said = f"{row.abort_seconds} s; said {', '.join(row.states) or 'nothing'}; {row.detail}"
                if not words.json:
                    print(f"{version:14} {kind:9} {row.failure:15} {marks}  {said}")
    if words.json:
        print(json.dumps([{name: getattr(row, name) for name in row.__slots__} for row in rows], indent=2))
    else:
        print(f"{sum(row.is_well for row in rows)} of {len(rows)} rows are well")
    return 0 if all(row.is_well for row in rows) else 1


_COLUMNS: Final = ("state", "exact", "limits", "abort")

if __name__ == "__main__":
    sys.exit(main())
