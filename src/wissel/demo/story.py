"""The story of `wissel demo`: every part is real but the models.

A real Envoy stands in front of simulated model servers and asks a real wissel
for each request, the `openai` client sends them, and a table shows what became
of each: where it was decided to go, and who says that it served it.
"""

import asyncio
import json
import tempfile
import webbrowser
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from wissel.demo.addition import NEW, Added, add_model, tell_addition
from wissel.demo.delivery import Delivered, deliver, sum_up
from wissel.demo.live import Question, go_on
from wissel.demo.loss import Lost, lose_model, tell_loss
from wissel.demo.parts import EnvoyProcess
from wissel.demo.real_model import running_model
from wissel.demo.stage import Stage, running_stage
from wissel.demo.upstream import Upstream, running_upstream
from wissel.errors import WorldError

ENGINEERING: Final = "wsl-demo-engineering"
SUPPORT: Final = "wsl-demo-support"
NOBODY: Final = "wsl-demo-nobody"


_WIDE: Final = 120
"""Columns of a terminal that has room for every column of the table."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the story, and how it is meant to end."""

    prompt: str
    model: str = "auto"
    key: str = ENGINEERING
    session: str = ""
    status: int = 200
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What became of it, as the client and Envoy's access log saw it."""

    prompt: str
    asked: str
    route: str
    score: float | None
    """Of the route, where the intent was asked for."""
    variant: str
    model: str
    served_by: str
    """The cluster whose server says that it answered."""
    status: int
    added_ms: float | None
    """What Envoy's ext_proc filter took of the request's time."""
    as_decided: bool


ELSEWHERE: Final = (
    Ask("Warum bricht diese Python-Funktion mit einem TypeError ab?", session="s-11"),
    Ask("Prüfe die Kündigungsklausel in unserem Vertrag"),
    Ask("Écris une fonction en Go qui trie une liste", session="s-12"),
    Ask("Quelle tendance vois-tu dans ces chiffres de vente ?"),
    Ask("这段代码为什么报错？帮我找出问题", session="s-13"),
    Ask("把“火车站在哪里”翻译成西班牙语"),
    Ask("この契約書の責任条項にリスクはありますか？"),
    Ask("リンクリストを逆順にする関数を書いて", session="s-14"),
)
"""What callers ask in other languages than the routes are described in, while a visitor looks around."""

STORY: Final = (
    Ask("Why does this Python function raise a TypeError when the list is empty?", session="s-1"),
    Ask("Write a Go function that reverses a linked list", session="s-1"),
    Ask("My unit test fails with an index out of range error, can you find the bug?", session="s-2"),
    Ask("Implement a rate limiter class in TypeScript", session="s-3"),
    Ask("Fix the segmentation fault in this C code", session="s-5"),
    Ask("Write a script that downloads a file and checks its hash", session="s-8"),
    Ask("Is the indemnity clause in this contract risky for us?"),
    Ask("Which obligations does this licence put on us?"),
    Ask("Is the increase in conversions in this table statistically significant?"),
    Ask("What trend do you see in the revenue numbers of the last four quarters?"),
    Ask("Translate 'where is the station' into Spanish"),
    Ask("How do you say thank you very much in Korean?", stream=True),
    Ask("Good morning! How was your weekend?"),
    Ask("Tell me a joke about cats", stream=True),
    Ask("Zebra umbrella seventeen"),
    Ask("Which model am I talking to?", model="gpt-4o"),
    Ask("Be quick: what is the capital of Peru?", model="fast"),
    Ask("How do you say thank you in Dutch?", key=SUPPORT),
    Ask("Review the termination clause of our supplier contract", key=SUPPORT, status=403),
    Ask("Hello Claude", model="claude-sonnet", key=SUPPORT, status=403),
    Ask("Hello?", key=NOBODY, status=401),
    Ask("Hello?", model="gpt-5-turbo", status=404),
)


async def tell(*, once: bool, as_json: bool, browser: bool = False, real_model: bool = False) -> bool:
    """Run the story; whether every request was served by the model that was decided, and every rollout ended well.

    With `browser` the console is opened as soon as it can be seen; with `real_model` the model that is added answers
    in words of its own. Raises WorldError where a part is missing.
    """
    console = Console(stderr=as_json)
    document: dict[str, Any] = yaml.safe_load(files("wissel.demo").joinpath("demo.yaml").read_text())
    with tempfile.TemporaryDirectory(prefix="wissel-demo-") as home, console.status("") as status:
        async with (
            _newcomer(Path(home), real=real_model) as newcomer,
            running_stage({**document, "redis": "embedded"}, Path(home), say=status.update) as stage,
        ):
            status.stop()
            if not as_json:
                console.print(f"The console shows all of this live: {stage.admin}/\n", highlight=False)
            if browser:
                await asyncio.to_thread(webbrowser.open, f"{stage.admin}/")
            return await _tell_on(stage, console, newcomer, once=once, as_json=as_json)


@asynccontextmanager
async def _newcomer(home: Path, *, real: bool) -> AsyncGenerator[str]:
    """The server of the model that is added, and where it is."""
    if real:
        async with running_model(home) as address:
            yield address
    else:
        async with running_upstream(Upstream(NEW)) as upstream:
            yield upstream.address


async def _tell_on(stage: Stage, console: Console, newcomer: str, *, once: bool, as_json: bool) -> bool:
    told = await _play(stage, console, quiet=as_json)
    if not as_json:
        _sum_up(told, console)
    added = await add_model(stage, newcomer, key=ENGINEERING)
    if not as_json:
        tell_addition(added, console)
    lost = await lose_model(stage, key=ENGINEERING)
    if not as_json:
        tell_loss(lost, console)
    delivered = await deliver(stage, console, key=ENGINEERING, quiet=as_json)
    if as_json:
        print(json.dumps(_summary(told, added, lost, delivered), indent=2))
    else:
        sum_up(delivered, console)
    if not once:
        await _stay(stage, console)
    stood = added.served and lost.unnoticed
    return stood and all(each.as_decided for each in told) and all(each.is_as_expected for each in delivered)


async def _play(stage: Stage, console: Console, *, quiet: bool) -> list[Told]:
    told: list[Told] = []
    table = _table(console.width)
    with Live(table, console=console, refresh_per_second=8, transient=quiet):
        for ask in STORY:
            told.append(await _send(stage, ask, number=len(told)))
            _add_row(table, told[-1], console.width)
    return told


async def _send(stage: Stage, ask: Ask, *, number: int) -> Told:
    from openai import APIStatusError  # noqa: PLC0415  half a second that no other command waits for

    headers = {"x-session-id": ask.session} if ask.session else {}
    status, served_by, answered = 200, "", ""
    async with stage.client(ask.key) as client:
        messages: Any = [{"role": "user", "content": ask.prompt}]
        try:
            raw = await client.chat.completions.with_raw_response.create(
                model=ask.model, messages=messages, stream=ask.stream, extra_headers=headers
            )
        except APIStatusError as error:
            status, decided = error.status_code, ""
        else:
            served_by, decided = raw.headers.get("x-served-by", ""), raw.headers.get("x-wissel-model", "")
            answer: Any = raw.parse()
            answered = [chunk.model async for chunk in answer][-1] if ask.stream else answer.model
    line = await _access(stage.envoy, number)
    facts = {name: value or "" for name, value in line["wissel"].items()}
    as_decided = status == ask.status and (
        status != 200
        or (
            served_by == stage.cluster_of.get(decided)
            and answered == stage.upstream_model_of.get(decided)
            and bool(decided)
        )
    )
    return Told(
        prompt=ask.prompt,
        asked=ask.model,
        route=facts.get("route", ""),
        score=line["wissel"].get("score"),
        variant=facts.get("variant", ""),
        model=decided,
        served_by=served_by,
        status=status,
        added_ms=added_ms(line["ext_proc"] or ""),
        as_decided=as_decided,
    )


async def _access(envoy: EnvoyProcess, number: int) -> dict[str, Any]:
    """The access log's line of the request; Envoy writes it a moment after the answer."""
    for _ in range(500):
        if len(lines := envoy.accesses()) > number:
            return lines[number]
        await asyncio.sleep(0.02)
    raise WorldError(f"{envoy.access_log} did not get line {number + 1} within 10 s")


def added_ms(state: str) -> float | None:
    """Milliseconds that the filter took, from its state as Envoy logs it.

    The state is a list such as `rh:1498:0,rb:1:535:0,sh:583:0`: for each phase
    its latency in µs and its gRPC status, for bodies with the number of calls
    in front. None if it holds no latency.
    """
    micros = [
        int(part.split(":")[-2])
        for part in state.split(",")
        if part[:2] in {"rh", "rb", "sh"} and len(part.split(":")) > 2
    ]
    return round(sum(micros) / 1000, 2) if micros else None


def _summary(told: list[Told], added: Added, lost: Lost, delivered: list[Delivered]) -> dict[str, Any]:
    """For programs: what `wissel demo --once --json` prints."""
    return {
        "requests": len(told),
        "failures": sum(not each.as_decided for each in told),
        "decisions": [asdict(each) for each in told],
        "added": asdict(added),
        "lost": asdict(lost),
        "rollouts": [asdict(each) for each in delivered],
    }


def _table(width: int) -> Table:
    """Fits any terminal: a narrow one does not show what the variant tells as well."""
    table = Table(title="Requests through Envoy, as they come", expand=True)
    table.add_column("prompt", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("route", overflow="ellipsis", no_wrap=True, max_width=16)
    table.add_column("score", justify="right")
    table.add_column("variant", overflow="ellipsis", no_wrap=True, max_width=14)
    if width >= _WIDE:
        table.add_column("asked for", no_wrap=True)
        table.add_column("model", no_wrap=True)
        table.add_column("served by", no_wrap=True)
    table.add_column("status")
    table.add_column("added ms", justify="right", no_wrap=True)
    table.add_column("")
    return table


def _add_row(table: Table, told: Told, width: int) -> None:
    wide = (told.asked, told.model, told.served_by) if width >= _WIDE else ()
    table.add_row(
        escape(told.prompt),
        told.route,
        "" if told.score is None else f"{told.score:.2f}",
        told.variant,
        *wide,
        str(told.status),
        "" if told.added_ms is None else f"{told.added_ms:.1f}",
        "[green]✓[/]" if told.as_decided else "[red]✗[/]",
    )


def _sum_up(told: list[Told], console: Console) -> None:
    served = Counter(each.model for each in told if each.model)
    refused = Counter(each.status for each in told if each.status != 200)
    wrong = sum(not each.as_decided for each in told)
    console.print()
    console.print(f"{len(told)} requests, {wrong} of them not as decided")
    console.print("served by   " + ", ".join(f"{name} {count}" for name, count in served.most_common()))
    console.print("refused     " + ", ".join(f"{status}: {count}" for status, count in sorted(refused.items())))


async def _stay(stage: Stage, console: Console) -> None:
    body = '{"model": "auto", "messages": [{"role": "user", "content": "why does my loop never end?"}]}'
    console.print()
    console.print("Everything stays up for you, callers go on, and both rollouts begin again. Try:", markup=False)
    console.print(
        f"  curl -si {stage.envoy.url}/v1/chat/completions -H 'content-type: application/json' \\\n"
        f"    -H 'authorization: Bearer {ENGINEERING}' -d '{body}'\n\n"
        f"  curl -s {stage.admin}/v1/route?as=engineering -d '{body}'      # why\n\n"
        f"  wissel rollout history chat-cheap --admin {stage.admin}      # who took it back, and on what evidence",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"\nConsole: {stage.admin}/   Metrics: {stage.admin}/metrics   Envoy: http://{stage.envoy.plan.admin}"
    )
    console.print("Ctrl-C stops it all.")
    questions = [Question(ask.model, ask.prompt, ask.key, ask.stream) for ask in (*STORY, *ELSEWHERE)]
    await go_on(stage, questions, key=ENGINEERING)
