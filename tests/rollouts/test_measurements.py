import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rollout_factories import a_spec, begun
from wissel.core.rollouts.evidence import Evidence, Missing
from wissel.core.rollouts.spec import Delivery
from wissel.rollouts import measurements, webhooks
from wissel.rollouts.measurements import Measurements, number_in
from wissel.store.base import Scope, Tallied
from wissel.store.lease import LEASE_SECONDS

QUEUE = Delivery(a_spec(), prometheus="http://prometheus", queries={"queue": "avg(queue)", "age": "max(age)"})

SILENCE = Missing("prometheus did not answer within 2 s")


class Empty:
    """Counters of a rollout that nobody has asked for anything."""

    async def read(self, scope: Scope) -> Tallied:
        return Tallied({})


class Silent:
    """A session whose other end never answers."""

    def get(self, url: str, *, params: object) -> "Silent":
        return self

    async def __aenter__(self) -> None:
        await asyncio.Event().wait()

    async def __aexit__(self, *_: object) -> None:
        pass


@pytest.mark.looptime
async def test_a_prometheus_that_is_silent_for_two_seconds_has_no_numbers():
    found = await Measurements(Empty(), Silent()).evidence(QUEUE, begun(a_spec()))

    assert isinstance(found, Evidence)
    assert (found.queries, asyncio.get_running_loop().time()) == ({"queue": SILENCE, "age": SILENCE}, 2.0)


def test_a_query_and_a_confirmation_together_take_less_than_a_lease_lasts():
    assert measurements.QUERY_SECONDS + webhooks.SECONDS < LEASE_SECONDS


def vector(*values: str) -> dict[str, object]:
    return success("vector", [{"metric": {"pod": str(n)}, "value": [1, value]} for n, value in enumerate(values)])


def success(kind: str, result: object) -> dict[str, object]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


@pytest.mark.parametrize("answer", [success("scalar", [1435781451.781, "0.25"]), vector("0.25"), vector("2.5e-1")])
def test_one_number_is_read_as_a_scalar_and_as_a_vector(answer: dict[str, object]):
    assert number_in(answer) == 0.25


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf"])
@pytest.mark.parametrize("answer", [vector, lambda n: success("scalar", [1, n])], ids=["vector", "scalar"])
def test_a_number_that_is_none_is_no_data(answer: Callable[[str], dict[str, object]], number: str):
    assert number_in(answer(number)) == Missing(f"the query gave {float(number)}, as it does without data")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (vector(), "the query found no series"),
        (vector("1", "2"), "the query gave 2 series; aggregate them, as with sum(…) or max(…)"),
        (success("string", [1, "up"]), 'the query gave a "string"; it should give one number'),
        (success("matrix", []), 'the query gave a "matrix"; it should give one number'),
        (
            {"status": "error", "errorType": "bad_data", "error": "parse error: unclosed left bracket"},
            'prometheus refused the query: "parse error: unclosed left bracket"',
        ),
        ({"status": "error", "errorType": "timeout"}, 'prometheus refused the query: "timeout"'),
        ({"status": "success"}, "the answer is none of a query of Prometheus"),
        (success("vector", [{"metric": {}}]), "the answer is none of a query of Prometheus"),
    ],
)
def test_a_query_without_a_number_says_why(answer: dict[str, object], why: str):
    assert number_in(answer) == Missing(why)


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (200, json.dumps(vector("3")), 3.0),
        (422, json.dumps({"status": "error", "error": "many-to-many"}), 'prometheus refused the query: "many-to-many"'),
        (502, "<html>", "prometheus answered 502 without JSON"),
        (200, "[]", "prometheus answered 200 without JSON"),
    ],
)
async def test_what_a_prometheus_answers_is_read(status: int, body: str, found: float | str):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/api/v1/query", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        delivery = replace(QUEUE, prometheus=str(server.make_url("")).rstrip("/"), queries={"queue": "avg(queue)"})
        evidence = await Measurements(Empty(), session).evidence(delivery, begun(a_spec()))

    assert isinstance(evidence, Evidence)
    assert evidence.queries == {"queue": found if isinstance(found, float) else Missing(found)}
