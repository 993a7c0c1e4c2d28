"""A whole installation on free ports of this machine: models' servers, wissel and Envoy.

The demo tells its story on it, and tests meet the real parts through it.
"""

import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import yaml

from wissel.config import Config, load
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.demo.upstream import Upstream, running_upstream
from wissel.envoy import plan
from wissel.runtime.child import running

if TYPE_CHECKING:
    from openai import AsyncOpenAI

START_SECONDS: Final = 300.0
"""The first start exports the embedding model, which takes a while on a small machine."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs."""

    config: Config
    path: Path
    """The configuration file that wissel watches."""
    envoy: EnvoyProcess
    upstreams: Mapping[str, Upstream]
    """By cluster."""
    log: Path
    """What wissel says."""
    process_id: int
    """Of wissel."""

    @property
    def admin(self) -> str:
        return f"http://{self.config.listen.admin}"

    @property
    def cluster_of(self) -> dict[str, str]:
        """Model name to its cluster."""
        return {model.name: model.cluster for model in self.config.models}

    @property
    def upstream_model_of(self) -> dict[str, str]:
        """Model name to what its server calls it."""
        return {model.name: model.upstream_model for model in self.config.models}

    def client(self, key: str) -> "AsyncOpenAI":
        """OpenAI's own client, talking to Envoy."""
        from openai import AsyncOpenAI  # noqa: PLC0415  it takes half a second, and not every stage needs a client

        return AsyncOpenAI(base_url=f"{self.envoy.url}/v1", api_key=key, max_retries=0)


@asynccontextmanager
async def running_stage(
    document: Mapping[str, Any], home: Path, *, say: Callable[[str], object] = lambda _: None
) -> AsyncGenerator[Stage]:
    """Start everything that `document`, a configuration as data, names; stop it however the block is left.

    Addresses are set to free ports, and each cluster becomes a simulated server. Raises ConfigError, and WorldError
    for a part that does not start.
    """
    async with AsyncExitStack() as stack:
        named = [*document["models"], *document.get("passthrough", [])]
        clusters = sorted({entry["cluster"] for entry in named})
        upstreams = {name: await stack.enter_async_context(running_upstream(Upstream(name))) for name in clusters}
        path = home / "wissel.yaml"
        path.write_text(yaml.safe_dump(_placed(document, upstreams, home), sort_keys=False))
        config = load(path)
        say("starting wissel (the first start prepares the embedding model)")
        session = await stack.enter_async_context(aiohttp.ClientSession())
        readyz = f"http://{config.listen.admin}/readyz"
        command = [sys.executable, "-m", "wissel", "serve", "--config", str(path), "--data", str(home / "redis")]
        log = home / "wissel.log"
        process = await stack.enter_async_context(
            running(command, log=log, ready=lambda: is_ready(session, readyz), deadline=START_SECONDS)
        )
        say("starting Envoy")
        envoy = await stack.enter_async_context(running_envoy(plan(config), home))
        yield Stage(config, path, envoy, upstreams, log, process.pid)


def _placed(document: Mapping[str, Any], upstreams: Mapping[str, Upstream], home: Path) -> dict[str, Any]:
    addresses = {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"}
    envoy = {
        "listen": f"127.0.0.1:{free_port()}",
        "admin": f"127.0.0.1:{free_port()}",
        "discovery": _discovery(document, home, addresses["admin"]),
        "clusters": [{"name": name, "address": upstream.address} for name, upstream in upstreams.items()],
    }
    return {**document, "listen": {**document.get("listen", {}), **addresses}, "envoy": envoy}


def _discovery(document: Mapping[str, Any], home: Path, admin: str) -> Any:
    asked = document.get("envoy", {}).get("discovery", {"file": ""})
    if isinstance(asked, str):
        return asked
    return {**asked, **({"rest": admin} if "rest" in asked else {"file": str(home / "clusters.json")})}


async def is_ready(session: aiohttp.ClientSession, readyz: str) -> bool:
    try:
        async with session.get(readyz) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
