"""A decision that nobody is served by: what a call would meet under a configuration file."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from wissel.admin.api import call_headers, find_principal
from wissel.classifiers.build import Classifiers
from wissel.config import load
from wissel.core.decision import Decision
from wissel.errors import ConfigError
from wissel.extproc.dry_run import dry_run
from wissel.router import Router, SharedParts
from wissel.serving.app import Parts, build_router
from wissel.serving.gate import running_gate


@asynccontextmanager
async def dry_router(path: Path) -> AsyncGenerator[Router]:
    """A router over the configuration at `path` that serves nobody. Raises ConfigError."""
    async with AsyncExitStack() as stack:
        classifiers = Classifiers()
        stack.push_async_callback(classifiers.close)
        config = load(path)
        shared = SharedParts()
        gate = await stack.enter_async_context(running_gate(None, config.namespace, lambda _: None, shared.telemetry))
        yield await build_router(config, Parts(classifiers, gate, shared))


async def explain(path: Path, *, headers: Mapping[str, str], body: bytes, caller: str | None, call: str) -> Decision:
    """The decision that a call would meet under the configuration at `path`; nothing is served.

    Raises ConfigError, also for a `caller` that no key has.
    """
    async with dry_router(path) as router:
        principal = find_principal(router, caller) if caller is not None else None
        if caller is not None and principal is None:
            raise ConfigError([f'--as: no key has the id "{caller}"'])
        return await dry_run(router, call_headers(call, headers), body, request_id="dry-run", caller=principal)
