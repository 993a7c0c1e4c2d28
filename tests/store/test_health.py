"""Every state is met as a real server says it; names, words and what becomes of the connection are one table."""

from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from redis import exceptions

from redis_fleet import Alone, Clustered, Node, Watched, wait_for
from wissel.store.connection import DEADLINE, RedisConnection, Script
from wissel.store.health import CONDITIONS, HOLDS, STATES, RedisHealth, State, UnwellError, state_of
from wissel.store.keys import Keys
from wissel.store.probe import StoreProbe

WRITE = Script("return redis.call('SET', KEYS[1], ARGV[1])")


@pytest.fixture(scope="module")
def alone(redis_binary: str) -> Iterator[Alone]:
    with Alone(redis_binary) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def clustered(redis_binary: str) -> Iterator[Clustered]:
    with Clustered(redis_binary) as fleet:
        yield fleet


async def met(url: str, *, deadline: float = DEADLINE) -> tuple[State, State]:
    """What a script and a plain command find there; and nobody finds a secret."""
    connection = RedisConnection(url, deadline=deadline)
    found: list[State] = []
    words: list[str] = []
    for call in (lambda: connection.call(WRITE, ["a"], ["b"]), lambda: connection.run("SET", "a", "b")):
        try:
            await call()
            found.append("ok")
        except UnwellError as error:
            found.append(error.state)
            words.append(str(error))
    await connection.close()
    assert "s3cret" not in "".join(words)
    return found[0], found[1]


def full(node: Node) -> None:
    node.ask("CONFIG", "SET", "maxmemory", 1)


def demoted(node: Node) -> None:
    node.ask("REPLICAOF", "127.0.0.1", 1)


def few_replicas(node: Node) -> None:
    node.ask("CONFIG", "SET", "min-replicas-to-write", 1)


def without_rights(node: Node) -> None:
    node.ask("ACL", "SETUSER", "default", "-set")


def whole(node: Node) -> None:
    node.ask("CONFIG", "SET", "maxmemory", 0)
    node.ask("REPLICAOF", "NO", "ONE")
    node.ask("CONFIG", "SET", "replica-serve-stale-data", "yes")
    node.ask("CONFIG", "SET", "min-replicas-to-write", 0)
    node.ask("ACL", "SETUSER", "default", "+@all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("done", "state"),
    [
        (whole, "ok"),
        (full, "oom"),
        (demoted, "readonly"),
        (few_replicas, "noreplicas"),
        (without_rights, "noperm"),
    ],
)
async def test_a_server_is_told_by_its_replies_to_scripts_and_commands(
    alone: Alone, done: Callable[[Node], None], state: State
):
    (node,) = alone.nodes
    done(node)
    try:
        found = await met(alone.url)
    finally:
        whole(node)

    assert found == (state, state)


@pytest.mark.slow
async def test_a_wrong_password_is_told_without_it(alone: Alone):
    assert await met(alone.url_as("ada", "s3cret")) == ("noauth", "noauth")


@pytest.mark.slow
async def test_a_replica_without_its_primary_that_tells_nothing_is_told(alone: Alone):
    (node,) = alone.nodes
    node.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    node.ask("REPLICAOF", "127.0.0.1", 1)
    connection = RedisConnection(alone.url)
    try:
        with pytest.raises(UnwellError) as raised:
            await connection.run("GET", "a")
    finally:
        whole(node)
        await connection.close()

    assert raised.value.state == "masterdown"


@pytest.mark.slow
async def test_a_server_that_reads_its_data_is_told(redis_binary: str):
    with Loaded(redis_binary) as fleet:
        (node,) = fleet.nodes
        node.ask("EVAL", "for i=1,6000 do redis.call('SET','filler:'..i, string.rep('x',4000)) end", 0)
        node.ask("SAVE")
        node.kill()
        # A microsecond a key is too quick to be met.
        node.begin("--key-load-delay", "500")
        wait_for(lambda: _is_loading(node), "it loads too quickly", seconds=5)

        assert await met(fleet.url) == ("loading", "loading")


class Loaded(Alone):
    """Reads one file at its start, which it can be told to do slowly."""

    def node(self, name: str, *words: str, port: int = 0) -> Node:
        return Node(self.binary, self.home / name, "--appendonly", "no", "--rdbcompression", "no", *words, port=port)


def _is_loading(node: Node) -> bool:
    try:
        node.ask("PING")
    except exceptions.BusyLoadingError:
        return True
    return False


@pytest.mark.slow
async def test_a_plain_url_that_leads_into_a_cluster_is_told(clustered: Clustered):
    other = next(node for node in clustered.nodes if node is not clustered.owner("a"))

    assert await met(f"redis://127.0.0.1:{other.port}") == ("moved", "moved")


@pytest.mark.slow
async def test_a_cluster_that_lacks_a_node_is_told(clustered: Clustered):
    lost = clustered.owner("a")
    lost.kill()
    try:
        found = await met(clustered.url)
        wait_for(lambda: "cluster_state:fail" in _info(clustered, lost), "the others do not notice")
        later = await met(clustered.url)
    finally:
        lost.start()
        clustered.until_whole()

    assert set(found + later) <= {"away", "clusterdown"}


def _info(clustered: Clustered, lost: Node) -> str:
    state = next(node for node in clustered.nodes if node is not lost).ask("CLUSTER", "INFO")
    return "\n".join(f"{name}:{value}" for name, value in state.items()) if isinstance(state, dict) else state


@pytest.mark.slow
async def test_a_sentinel_behind_a_plain_url_is_told(redis_binary: str):
    with Watched(redis_binary) as fleet:
        plain = await met(f"redis://127.0.0.1:{fleet.sentinels[0].port}")
        unknown = await met(fleet.url.replace("/main/", "/other/"))

    assert (plain, unknown) == (("stranger", "stranger"), ("nomaster", "nomaster"))


async def test_nobody_at_the_address_is_told_with_the_address_and_the_reason():
    connection = RedisConnection("redis://user:s3cret@127.0.0.1:1/0")

    with pytest.raises(UnwellError, match=r"PING: away: it does not answer \(127.0.0.1:1, connection refused\)"):
        await connection.run("PING")


@pytest.mark.slow
async def test_the_probe_finds_what_nobody_asked_for_and_that_it_is_over(alone: Alone):
    (node,) = alone.nodes
    health = RedisHealth()
    connection = RedisConnection(alone.url, health=health)
    probe = StoreProbe(connection, Keys("test"), health)
    full(node)
    await probe.touch()
    found = health.state, (health.problem or "").partition(":")[0]
    whole(node)
    await probe.touch()
    await connection.close()

    assert (found, health.state, health.problem) == (("oom", "oom"), "ok", None)


def test_every_state_has_a_row():
    assert tuple(CONDITIONS) == STATES == get_args(State)


def test_what_is_asked_twice_was_certainly_not_done():
    assert {state for state in STATES if CONDITIONS[state].again} == {"readonly", "noscript"}


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed", "oom"),
        ("Error running script (call to f_1): @user_script:3: -READONLY You can't write", "readonly"),
        ("MISCONF Redis is configured to save RDB snapshots", "misconf"),
        ("BUSY Redis is busy running a script.", "busy"),
        ("unknown command 'AUTH', with args beginning with: 's3cret'", "stranger"),
        ("WRONGTYPE Operation against a key", "refused"),
    ],
)
def test_a_reply_without_a_type_is_told_by_its_word(text: str, state: State):
    assert state_of(exceptions.ResponseError(text)) == state


def test_a_server_that_takes_no_more_connections_is_told():
    assert state_of(exceptions.ConnectionError("max number of clients reached")) == "crowded"


def test_one_late_answer_says_nothing_and_three_say_that_it_is_away():
    now = [0.0]
    health = RedisHealth(lambda: now[0])
    states = []
    for _ in range(3):
        health.late()
        states.append(health.state)
        now[0] += 1.0

    assert states == ["ok", "ok", "away"]


def test_a_failure_that_nobody_met_again_is_over():
    now = [0.0]
    health = RedisHealth(lambda: now[0])
    health.failed("away")
    now[0] += HOLDS + 1

    assert health.problem is None


def test_of_several_states_the_one_to_act_on_is_told():
    health = RedisHealth(lambda: 0.0)
    for state in ("away", "refused", "noauth"):
        health.failed(state)

    assert health.state == "noauth"


def test_a_right_that_is_lacking_elsewhere_outlives_a_probe_that_went_well():
    health = RedisHealth(lambda: 0.0)
    health.failed("noperm")
    health.failed("oom")
    health.whole()

    assert health.state == "noperm"
