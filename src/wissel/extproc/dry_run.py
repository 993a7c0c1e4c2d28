"""The decision that a request would meet, without any request.

The same exchange and router as for served traffic, with nobody at the other
end: what this says is what Envoy would have been told.
"""

import asyncio
from collections.abc import Mapping
from typing import cast

from wissel.apis.windows import Slices
from wissel.core.access import Principal
from wissel.core.decision import Decision
from wissel.core.refusals import not_a_call
from wissel.extproc.events import Decide, Fail, Identify, Read, RequestBody, RequestHeaders, Score, Step
from wissel.extproc.exchange import Exchange
from wissel.router import Router


async def _read(work: Slices[list[Step]]) -> list[Step]:
    """Nobody waits for it, and others must not wait because of it."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return cast("list[Step]", done.value)
        await asyncio.sleep(0)


async def dry_run(
    router: Router, headers: Mapping[str, str], body: bytes, *, request_id: str, caller: Principal | None = None
) -> Decision:
    """Decide a request that nobody sent; `headers` include the pseudo headers.

    With `caller` the request is decided as theirs, whatever credential it shows.
    """
    router = router.uncounted()
    exchange = Exchange(request_id, now=0.0, terms=router.snapshot.terms, walks_plans=True)
    steps = exchange.receive(RequestHeaders(headers, end_of_stream=not body), now=0.0)
    while exchange.decision is None:
        match steps.pop() if steps else None:
            case Identify(head):
                steps = exchange.identified(caller or router.identify(head))
            case Decide(subject, who):
                answer = router.decide(subject, who, request_id)
                exchange.decided(answer if isinstance(answer, Decision) else await answer)
            case Read(work):
                steps = await _read(work)
            case Score():
                return not_a_call()
            case Fail(why):
                raise AssertionError(why)
            case _:
                steps = exchange.receive(RequestBody(body, end_of_stream=True), now=0.0)
    return exchange.decision
