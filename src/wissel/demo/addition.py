"""A model is added to the file while everything runs, and serves a moment later: nothing is started again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import aiohttp
import yaml
from rich.console import Console
from rich.markup import escape

from wissel.demo.stage import Stage

NEW: Final = "newcomer"
"""The model, its cluster and its server."""
SECONDS: Final = 10.0
"""After which the demo does not wait for it any longer."""
_MOST_SAID: Final = 24
"""Tokens."""


@dataclass(frozen=True, slots=True)
class Added:
    """How that went."""

    model: str
    seconds: float
    """From the edit to the first answer."""
    served: bool
    said: str
    """Its first answer."""


async def add_model(stage: Stage, address: str, *, key: str) -> Added:
    """Write a model whose server is at `address` into the file, and ask for it until it answers."""
    began = perf_counter()
    edit(stage.path, {"name": NEW, "cluster": NEW}, {"name": NEW, "address": address})
    headers = {"authorization": f"Bearer {key}"}
    asked = [{"role": "user", "content": "Are you there already?"}]
    body = {"model": NEW, "messages": asked, "max_tokens": _MOST_SAID}
    async with aiohttp.ClientSession() as session:
        while (took := perf_counter() - began) < SECONDS:
            url = f"{stage.envoy.url}/v1/chat/completions"
            async with session.post(url, json=body, headers=headers) as answer:
                if answer.status == 200:
                    said: str = (await answer.json())["choices"][0]["message"]["content"]
                    return Added(NEW, round(took, 2), served=True, said=said)
            await asyncio.sleep(0.02)
    return Added(NEW, SECONDS, served=False, said="")


def edit(path: Path, model: Mapping[str, Any], cluster: Mapping[str, Any]) -> None:
    """Put a model and its cluster into a configuration file, which is replaced in one piece."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    document["models"].append(dict(model))
    document["envoy"]["clusters"].append(dict(cluster))
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(document, sort_keys=False))
    new.replace(path)


def tell_addition(added: Added, console: Console) -> None:
    """A line."""
    if added.served:
        console.print(f"\n[green]{added.model}[/] was added to the file, and answered {added.seconds:.1f} s later:")
        console.print(f"  {escape(added.said)}", style="italic", highlight=False)
    else:
        console.print(f"\n[red]{added.model}[/] was added to the file, and did not answer within {added.seconds:.0f} s")
