"""Arch-Router on another machine: the same prompt, sent to servers that speak OpenAI's protocol.

    Conversation -> prompt -> POST /chat/completions -> answer, with log-probabilities -> Scores

This is how a router model is scaled out: vLLM, SGLang, llama.cpp and TGI batch
the requests and keep the prompt's common beginning cached. A server is asked
for as much as it can do: an answer held to the legal ones, with
log-probabilities; one that refuses a part of that is asked for less, from then
on. A request that fails goes to another endpoint while its time lasts, and an
endpoint that keeps failing is left alone for a while.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import aiohttp
import structlog

from wissel.classifiers.arch_prompt import PROFILES, ProfileName, ReadCounts, ReadKind, read_answer
from wissel.classifiers.memory import AnswerMemory
from wissel.classifiers.odds import TokenOdds, spread, with_leader
from wissel.core.intent import OTHER, Scores
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route
from wissel.errors import UpstreamError
from wissel.runtime.breaker import Breaker

log = structlog.get_logger(__name__)

CLASSIFIER = "remote"
Guide = Literal["json_schema", "choice", "guided_choice", "regex", "grammar", "none"]
"""How a server is told the legal answers; see `_guide`."""

REFUSALS = frozenset({400, 422, 501})
"""What servers answer to a field that they do not know or support."""
MAX_ANSWER_BYTES = 1 << 20
MAX_ANSWER_TOKENS = 64
ALTERNATIVES = 20
"""Tokens beside the written one whose log-probabilities are asked for: the most that OpenAI's protocol allows."""
MISREAD: Mapping[ReadKind, str] = {
    "unknown": "the router model named no route of ours",
    "unreadable": "the router model's answer names nothing",
}
"""What is told of such an answer; not the answer, in which the prompt may stand."""
PATIENCE = 0.5
"""A caller that gives up after this part of an attempt's time has found the server slow; before, it says nothing."""
CONNECTIONS = 64
"""Kept per endpoint; requests beyond them wait for one."""


@dataclass(slots=True)
class _Endpoint:
    """One server and how it has behaved."""

    url: str
    breaker: Breaker = field(default_factory=Breaker)
    in_flight: int = 0
    refused: int = 0
    """How many of the extras, dearest first, it has refused."""

    def failed(self, why: str, now: float) -> str:
        """Counts it, and returns `why`; the log has it when nobody asks the server any more, not for every request."""
        if self.breaker.fail(now):
            log.warning("endpoint_left_alone", seconds=self.breaker.cooldown, why=why)
        return why


class Connections:
    """HTTP connections, opened when first needed; what shares them can come and go."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=True)
        return self._session

    async def close(self) -> None:
        """The next request would open new ones."""
        if self._session:
            await self._session.close()
            self._session = None


class RemoteRouterModel:
    """A `Classifier` for one set of routes."""

    def __init__(
        self,
        routes: Iterable[Route],
        endpoints: Sequence[str],
        model: str,
        *,
        api_key: str = "",
        profile: ProfileName = "arch_router",
        guide: Guide = "json_schema",
        budget: int | None = None,
        threshold: float = 0.0,
        timeout: float = 1.0,
        attempts: int = 2,
        connections: Connections | None = None,
    ) -> None:
        """`endpoints` are base URLs up to and including `/v1`; they serve the router model under the name `model`.

        `timeout` are the seconds for all `attempts` together; each goes to another endpoint and gets an equal share
        of what is left. `connections` given are shared, and closed by whoever gave them; else `close` does it.
        """
        self._routes = tuple(routes)
        self._profile = PROFILES[profile]
        self._budget = budget
        self._threshold = threshold
        self._timeout = timeout
        self._attempts = attempts
        self._answers = self._profile.answers(self._routes)
        self._endpoints = [_Endpoint(url.rstrip("/")) for url in endpoints]
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._body: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": MAX_ANSWER_TOKENS}
        guided = _guide(guide, list(self._answers.values()))
        logprobs = {"logprobs": True, "top_logprobs": ALTERNATIVES}
        self._extras: list[dict[str, Any]] = [{**guided, **logprobs}, guided, {}] if guided else [logprobs, {}]
        self._connections = connections or Connections()
        self._memory = AnswerMemory()
        self.readings: ReadCounts = Counter()
        """How often an answer named a route or "other", named no route of ours, or could not be read."""

    def recall(self, conversation: Conversation) -> Scores | None:
        turns = self._profile.trim(conversation, self._budget)
        if not turns or not self._routes:
            return Scores({OTHER: 1.0}, self._threshold, CLASSIFIER)
        return self._memory.recall(turns)

    async def classify(self, conversation: Conversation) -> Scores:
        if scores := self.recall(conversation):
            return scores
        turns = self._profile.trim(conversation, self._budget)
        scores = self._read(await self._ask(turns))
        self._memory.keep(turns, scores)
        return scores

    async def close(self) -> None:
        """Closes the connections; the next request would open new ones."""
        await self._connections.close()

    async def _ask(self, turns: Sequence[Turn]) -> "_Answer":
        """The first answer that an endpoint gives. Raises UpstreamError if none does in time."""
        body = {**self._body, "messages": [{"role": "user", "content": self._profile.prompt(self._routes, turns)}]}
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        tried: list[_Endpoint] = []
        troubles: list[str] = []
        for left in range(self._attempts, 0, -1):
            endpoint = self._pick(clock(), tried)
            if endpoint is None or clock() >= deadline:
                break
            # Whoever has nobody after it may take all the time there is.
            sharers = max(1, min(left, len(self._endpoints) - len(tried)))
            tried.append(endpoint)
            endpoint.in_flight += 1
            endpoint.breaker.enter()
            began = clock()
            share = (deadline - began) / sharers
            try:
                async with asyncio.timeout(share):
                    answer = await self._attempt(endpoint, body)
            except TimeoutError:
                troubles.append(endpoint.failed(f"{endpoint.url}: no answer in time", clock()))
            except UpstreamError as error:
                troubles.append(endpoint.failed(str(error), clock()))
            except asyncio.CancelledError:
                if clock() - began < PATIENCE * share:
                    endpoint.breaker.leave()
                else:
                    # A cascade's deadline comes before ours, as time went into its stages before.
                    endpoint.failed(f"{endpoint.url}: no answer in the time of its caller", clock())
                raise
            else:
                endpoint.breaker.succeed()
                return answer
            finally:
                endpoint.in_flight -= 1
        raise UpstreamError(
            "; ".join(dict.fromkeys(troubles)) or "every endpoint failed lately and is left alone for a while"
        )

    def _pick(self, now: float, tried: Sequence[_Endpoint]) -> _Endpoint | None:
        """Of those that may be asked one not tried yet, if there is one, and the least busy; equals take turns."""
        able = [endpoint for endpoint in self._endpoints if endpoint.breaker.allows(now)]
        if not able:
            return None
        best = min(able, key=lambda endpoint: (endpoint in tried, endpoint.in_flight))
        self._endpoints.remove(best)
        self._endpoints.append(best)
        return best

    async def _attempt(self, endpoint: _Endpoint, body: Mapping[str, Any]) -> "_Answer":
        """One endpoint's answer, asked for less where it refuses the extras. Raises UpstreamError."""
        refused = endpoint.refused
        status, text = await self._post(endpoint, {**body, **self._extras[refused]})
        while status in REFUSALS and refused + 1 < len(self._extras):
            refused += 1
            status, text = await self._post(endpoint, {**body, **self._extras[refused]})
        if status not in REFUSALS:
            # It was the extras: a request that is refused without them too says nothing of them.
            endpoint.refused = max(endpoint.refused, refused)
        return _parse(endpoint.url, status, text)

    async def _post(self, endpoint: _Endpoint, body: Mapping[str, Any]) -> tuple[int, bytes]:
        session = self._connections.session
        url = f"{endpoint.url}/chat/completions"
        text = bytearray()
        try:
            async with session.post(url, json=body, headers=self._headers, allow_redirects=False) as response:
                async for chunk in response.content.iter_any():
                    text += chunk
                    if len(text) > MAX_ANSWER_BYTES:
                        raise UpstreamError(f"{endpoint.url}: an answer of more than {MAX_ANSWER_BYTES} bytes")
                return response.status, bytes(text)
        except (aiohttp.ClientError, OSError) as error:
            # BaseUrl keeps secrets out of the URL, and so out of these words.
            raise UpstreamError(f"{endpoint.url}: {error or type(error).__name__}") from error

    def _read(self, answer: "_Answer") -> Scores:
        reading = read_answer(answer.text, self._answers)
        self.readings[reading.kind] += 1
        certain = {name: float(name == reading.route) for name in self._answers}
        told = spread(self._answers, answer.steps) if reading.kind in {"route", "other"} else None
        scores = with_leader(told or certain, reading.route)
        return Scores(scores, self._threshold, CLASSIFIER, detail=MISREAD.get(reading.kind, ""))


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    steps: tuple[TokenOdds, ...]
    """Empty where the server told no log-probabilities."""


def _parse(url: str, status: int, data: bytes) -> _Answer:
    """A chat completion. Raises UpstreamError for anything else."""
    if status != 200:
        raise UpstreamError(f"{url}: HTTP {status}: {data[:200].decode(errors='replace')}")
    try:
        choice = cast("dict[str, Any]", json.loads(data))["choices"][0]
        return _Answer(str(choice["message"]["content"] or ""), _steps(choice))
    except (ValueError, LookupError, TypeError) as error:
        raise UpstreamError(f"{url}: not a chat completion: {data[:200].decode(errors='replace')}") from error


def _steps(choice: Mapping[str, Any]) -> tuple[TokenOdds, ...]:
    logprobs = cast("dict[str, Any]", choice.get("logprobs") or {})
    return tuple(
        TokenOdds(str(token["token"]), float(token["logprob"]), _others(token.get("top_logprobs") or ()))
        for token in cast("list[dict[str, Any]]", logprobs.get("content") or [])
    )


def _others(alternatives: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    return {str(other["token"]): float(other["logprob"]) for other in alternatives}


def _guide(guide: Guide, answers: Sequence[str]) -> dict[str, Any]:
    """What tells a server of this kind to write nothing but `answers`."""
    match guide:
        case "json_schema":
            # OpenAI's own; vLLM, SGLang, llama.cpp and TGI understand it too.
            schema = {"name": "route", "strict": True, "schema": _schema(answers)}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case "choice":
            return {"structured_outputs": {"choice": list(answers)}}  # vLLM since 0.11
        case "guided_choice":
            return {"guided_choice": list(answers)}  # vLLM before 0.12
        case "regex":
            return {"regex": "|".join(f"({re.escape(answer)})" for answer in answers)}  # SGLang
        case "grammar":
            return {"grammar": "root ::= " + " | ".join(map(json.dumps, answers))}  # llama.cpp
        case "none":
            return {}


def _schema(answers: Sequence[str]) -> dict[str, Any]:
    values: list[str | list[str]] = [json.loads(answer)["route"] for answer in answers]
    names = [value if isinstance(value, str) else value[0] for value in values if value]
    route: dict[str, Any] = {"type": "string", "enum": names}
    if any(isinstance(value, list) for value in values):
        route = {"type": "array", "items": route, "maxItems": 1}
    return {"type": "object", "properties": {"route": route}, "required": ["route"], "additionalProperties": False}
