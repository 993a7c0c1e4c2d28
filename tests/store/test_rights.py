"""A user with the rights that docs/operating.md lists can do everything, on one server and in a cluster."""

import re
from collections.abc import Iterator
from pathlib import Path
from time import time

import pytest

import wissel.store.limits
from redis_fleet import Alone, Clustered, Fleet
from rollout_factories import a_spec, begun
from wissel.core.access import Principal
from wissel.core.affinity import MadeId, Origin, Unreachable
from wissel.core.lesson import Lesson, Taught
from wissel.core.limits import Charge, Drawn, Used
from wissel.core.rollouts.analysis import Analysis
from wissel.core.tier import Learning
from wissel.store.affinity import Origins
from wissel.store.audit import Audit
from wissel.store.base import Answered, AuditEntry, Record, Scope
from wissel.store.connection import RedisConnection
from wissel.store.counters import Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.health import RedisHealth
from wissel.store.keys import Keys
from wissel.store.lease import Lease
from wissel.store.lessons import LessonStore
from wissel.store.limits import Limiter
from wissel.store.looks import Looks
from wissel.store.managed_keys import ManagedKeys
from wissel.store.probe import StoreProbe
from wissel.store.records import Records
from wissel.telemetry.counting import Telemetry

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs/operating.md"
SCOPE = Scope("chat", "r1")


def rights() -> list[str]:
    """The words of the documented ACL SETUSER, after the user's name."""
    (block,) = re.findall(r"^ACL SETUSER wissel (.*?)```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return block.replace("\\\n", " ").split()


@pytest.fixture(scope="module", params=[Alone, Clustered])
def servers(request: pytest.FixtureRequest, redis_binary: str) -> Iterator[Fleet]:
    with request.param(redis_binary) as running:
        yield running


@pytest.fixture
def fleet(servers: Fleet) -> Fleet:
    """Empty, with the documented user."""
    for node in servers.nodes:
        node.ask("FLUSHALL")
        node.ask("ACL", "SETUSER", "wissel", "reset", *rights())
    return servers


async def test_everything_can_be_done(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wissel.store.limits, "DEADLINE", 20.0)
    health, keys = RedisHealth(), Keys("test")
    connection = RedisConnection(fleet.url_as("wissel", "PASSWORD"), health=health)
    limiter = Limiter(connection, keys, "r")
    charges = tuple(
        Charge("l", kind, "principal", "ada", 1000, 0 if kind == "concurrent" else 60_000_000, 1)
        for kind in ("requests", "tokens", "concurrent", "usd")
    )
    drawn = await limiter.draw(charges, otherwise="forbid")
    assert isinstance(drawn, Drawn)
    limiter.settle(drawn, Used(5, 5))
    assert await limiter.flush()
    await limiter.close()

    counters = Counters(connection, keys, gone_after=0.0)
    for at in range(2):
        pieces = {"c/canary/served": {0: 1}, "k/canary/cost_usd.t": {0: 0.5}}
        still_open = {"canary/served": {0: 1}}
        await counters.write(SCOPE, "a", pieces, since=at - 1 if at == 0 else 0, upto=at, still_open=still_open)
        await counters.fold(SCOPE, every=30.0)
    await counters.meet(SCOPE, [("canary", b"key")])
    assert (await counters.read(SCOPE)).arm("canary").keys == 1

    lease = Lease(connection, keys, "me")
    token = await lease.take()
    records, audit = Records(connection, keys), Audit(connection, keys)
    entry = AuditEntry("rollout/chat", "began", "me", "")
    rollout = begun(a_spec())
    assert isinstance(await records.put(rollout, version=0, entries=[entry], token=token), Record)
    assert isinstance(await records.get(rollout.name), Record)
    assert await records.versions()
    await lease.release()
    await audit.add(entry)
    assert len(await audit.latest(5)) == 2
    async for each in audit.follow("0"):
        assert each.subject == "rollout/chat"
        break

    managed = ManagedKeys(connection, keys)
    key, _ = await managed.create(Principal("ada"), by="me", now=0.0)
    await managed.rotate(key.key.id, by="me", now=0.0, grace=1.0)
    await managed.all()
    await managed.version()
    assert await managed.revoke(key.key.id, by="me", reason="")

    feedback = FeedbackStore(connection, keys)
    await feedback.remember([(f"wr-{at}", Answered(None, "tier")) for at in range(5)])
    assert isinstance(await feedback.accept("wr-1", 1.0), Answered)

    lessons = LessonStore(connection, keys)
    lessons.use({"tier": Learning(0.1, True, 60.0, 100)})
    lessons.add(Taught("wr-1", Lesson("tier", ("a", "b"), "strong", 0.5, ""), True, "a", "r"))
    await lessons.flush()
    await lessons.cut()
    assert len(await lessons.read("tier")) == 1

    origins = Origins(connection, keys, Telemetry())
    made, now = MadeId("responses", "resp_1"), time()
    origins.keep(made, Origin("a", "c", "r", "ada", "", now, now + 60))
    assert await origins.flush()
    assert isinstance(await origins.find(made), Origin)
    assert not isinstance(await origins.made_for("responses", "ada"), Unreachable)
    origins.drop(made, "ada")
    assert await origins.flush()

    looks = Looks(connection, keys)
    await looks.put("ab", "r1", {"b": Analysis()}, ())
    await looks.get("ab", "r1", ())
    await StoreProbe(connection, keys, health).touch()
    await connection.close()

    assert health.state == "ok"


async def test_a_user_without_a_right_is_told_so(fleet: Fleet):
    for node in fleet.nodes:
        node.ask("ACL", "SETUSER", "wissel", "-set")
    health = RedisHealth()
    connection = RedisConnection(fleet.url_as("wissel", "PASSWORD"), health=health)
    await StoreProbe(connection, Keys("test"), health).touch()
    await connection.close()

    assert (health.problem or "").startswith("noperm: ")
