"""Prompts to labels for one's own pair: both models answer, a judge says whose answer is better.

Judges favour what they read first, so each pair of answers is judged twice,
with the places changed; a label is the mean of both. A line is written as soon
as a prompt is done, and a run that is started again goes on where it stopped.
Any server that speaks OpenAI's chat completions will do.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp

from wissel.errors import ConfigError, UpstreamError, WorldError
from wissel.tiers.base import STRONG, WEAK, Progress

Vote = Literal["first", "second", "tie"]

ATTEMPTS = 4
BACKOFF_S = 1.0
TIMEOUT_S = 120.0
CONCURRENCY = 8

JUDGE = """Two assistants answered the same question. Judge which answer is more helpful, correct and complete.
Neither their order nor their length should matter.

[Question]
{prompt}

[Answer of assistant A]
{first}

[Answer of assistant B]
{second}

Reply with one verdict and nothing else: [[A]] if A is better, [[B]] if B is better, [[C]] if they are equally good."""

_VERDICT = re.compile(r"\[\[([ABC])\]\]|^\s*([ABC])\b")
_VOTES: Mapping[str, Vote] = {"A": "first", "B": "second", "C": "tie"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model behind an OpenAI-compatible server."""

    model: str
    url: str
    """What comes before `/chat/completions`."""
    key: str = field(default="", repr=False)
    price: tuple[float, float] = (0.0, 0.0)
    """USD per million tokens, of the prompt and of the answer."""

    @classmethod
    def parse(cls, written: str, *, key: str = "", price: tuple[float, float] = (0.0, 0.0)) -> "Endpoint":
        """`MODEL@URL`. Raises ConfigError."""
        model, _, url = written.partition("@")
        if not model or not url.startswith(("http://", "https://")):
            raise ConfigError([f'"{written}" should be MODEL@URL, such as gpt-4o@https://api.openai.com/v1'])
        return cls(model, url.rstrip("/"), key, price)


@dataclass(frozen=True, slots=True)
class Pair:
    """Who answers and who judges."""

    strong: Endpoint
    weak: Endpoint
    judge: Endpoint


@dataclass(slots=True)
class LabelTally:
    """What a run has done so far."""

    labelled: int = 0
    skipped: int = 0
    """Labelled by an earlier run."""
    failed: int = 0
    """They are tried again by the next run."""
    calls: int = 0
    usd: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.labelled} labelled, {self.skipped} were already, {self.failed} failed; "
            f"{self.calls} calls, {self.usd:.4f} USD"
        )


class Pace:
    """Lets one call through every `1 / rate` seconds."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._next = 0.0

    async def wait(self) -> None:
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self._gap
        await asyncio.sleep(at - now)


async def label(
    prompts: Sequence[str],
    out: Path,
    pair: Pair,
    *,
    rate: float = 5.0,
    backoff_s: float = BACKOFF_S,
    progress: Progress | None = None,
) -> LabelTally:
    """Appends one row a prompt to `out`, at no more than `rate` calls a second.

    A prompt that fails is counted and left for the next run. Raises ConfigError if `out` cannot be read or written.
    """
    tally = LabelTally()
    done = _done(out)
    wanted = [prompt for prompt in dict.fromkeys(prompts) if prompt not in done]
    tally.skipped = len(set(prompts)) - len(wanted)
    todo = iter(wanted)
    try:
        file = out.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError([f'--out: cannot write "{out}": {error.strerror}']) from error
    with file:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
            client = _Client(session, Pace(rate), backoff_s, tally)

            async def work() -> None:
                for prompt in todo:
                    try:
                        row = await _label_one(client, prompt, pair)
                    except WorldError as error:
                        tally.failed += 1
                        if progress is not None:
                            progress(f"failed: {error}")
                        continue
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    file.flush()
                    tally.labelled += 1
                    if progress is not None:
                        progress(f"{tally.labelled + tally.failed} of {len(wanted)}: {tally}")

            async with asyncio.TaskGroup() as group:
                for _ in range(min(CONCURRENCY, len(wanted))):
                    group.create_task(work())
    return tally


def vote(answer: str) -> Vote:
    """What the judge said. Raises UpstreamError if it said nothing of the kind."""
    found = _VERDICT.search(answer)
    if found is None:
        raise UpstreamError(f'the judge said "{answer[:80]}"; it should say [[A]], [[B]] or [[C]]')
    return _VOTES[found[1] or found[2]]


def _done(out: Path) -> set[str]:
    if not out.exists():
        return set()
    found: set[str] = set()
    try:
        text = out.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            # The last run was killed while it wrote: its half line is cut off, and its prompt labelled again.
            text = text[: text.rfind("\n") + 1]
            out.write_text(text, encoding="utf-8")
        for line in text.split("\n"):
            if line:
                found.add(str(json.loads(line)["prompt"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError([f'--out: "{out}" holds something other than labels: {error}']) from error
    return found


async def _label_one(client: "_Client", prompt: str, pair: Pair) -> dict[str, Any]:
    strong, weak = await asyncio.gather(client.ask(pair.strong, prompt), client.ask(pair.weak, prompt))
    straight, turned = await asyncio.gather(
        client.ask(pair.judge, JUDGE.format(prompt=prompt, first=strong, second=weak)),
        client.ask(pair.judge, JUDGE.format(prompt=prompt, first=weak, second=strong)),
    )
    votes = vote(straight), vote(turned)
    wins = (
        {"first": 1.0, "second": 0.0, "tie": 0.5}[votes[0]] + {"first": 0.0, "second": 1.0, "tie": 0.5}[votes[1]]
    ) / 2
    return {
        "prompt": prompt,
        STRONG: wins,
        WEAK: 1 - wins,
        "votes": votes,
        "models": [pair.strong.model, pair.weak.model],
        "judge": pair.judge.model,
    }


class _Client:
    """Calls with pace, retries and a bill."""

    def __init__(self, session: aiohttp.ClientSession, pace: Pace, backoff_s: float, tally: LabelTally) -> None:
        self._session = session
        self._pace = pace
        self._backoff_s = backoff_s
        self._tally = tally

    async def ask(self, endpoint: Endpoint, prompt: str) -> str:
        """The answer's text. Raises UpstreamError after the last attempt."""
        for attempt in range(1, ATTEMPTS + 1):
            await self._pace.wait()
            self._tally.calls += 1
            try:
                return await self._call(endpoint, prompt)
            except _AgainError as error:
                if attempt == ATTEMPTS:
                    raise UpstreamError(f"{endpoint.model}: {error}, {ATTEMPTS} times") from error
                await asyncio.sleep(self._backoff_s * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    async def _call(self, endpoint: Endpoint, prompt: str) -> str:
        headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        body = {"model": endpoint.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
        try:
            async with self._session.post(f"{endpoint.url}/chat/completions", json=body, headers=headers) as response:
                if response.status == 429 or response.status >= 500:
                    raise _AgainError(f"status {response.status}")
                if response.status != 200:
                    raise UpstreamError(f"{endpoint.model}: status {response.status}: {(await response.text())[:200]}")
                read = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _AgainError(str(error) or "no answer in time") from error
        except ValueError as error:
            raise UpstreamError(f"{endpoint.model}: answered what is no JSON") from error
        return self._read(endpoint, read)

    def _read(self, endpoint: Endpoint, read: Any) -> str:
        try:
            text = read["choices"][0]["message"]["content"]
            usage: Mapping[str, int] = read.get("usage") or {}
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise UpstreamError(f"{endpoint.model}: answered without choices") from error
        for tokens, price in zip(("prompt_tokens", "completion_tokens"), endpoint.price, strict=True):
            self._tally.usd += usage.get(tokens, 0) * price / 1e6
        if not isinstance(text, str) or not text:
            raise UpstreamError(f"{endpoint.model}: answered without text")
        return text


class _AgainError(Exception):
    """A failure that may pass."""
