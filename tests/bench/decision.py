"""What a decision costs as the configuration grows: it should not.

    python -m tests.bench.decision [--json]

The pure decision (who calls, access, choice of route, able models, split), on
one conversation whose scores are known: the classifier's matrix product is
measured elsewhere. Sizes are played in turns, so that a busy machine is busy
for all of them, and the median of each is compared with the smallest's.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from time import perf_counter
from typing import Final

from rich.console import Console
from rich.table import Table

from wissel.core.access import Principal, Rule, RuleBook
from wissel.core.decision import Denied, Routed
from wissel.core.identity import identify
from wissel.core.intent import Scores
from wissel.core.policy import ByIntent, admit, choose, decide
from wissel.core.request import Conversation, Head, Request, Turn
from wissel.core.snapshot import ApiKey, Model, Route, Snapshot
from wissel.core.split import KeySource, Split, Variant

ROUTES: Final = (10, 100, 1000)
RULES: Final = (10, 1000, 10_000)
"""Keys too: each rule is about one of them."""
TURNS: Final = 300
BATCH: Final = 20


@dataclass(frozen=True, slots=True)
class Figure:
    """One size."""

    what: str
    size: int
    p50_us: float
    growth: float
    """Over the smallest size of the same kind; the aim is below 2."""


def snapshot(*, routes: int, callers: int) -> Snapshot:
    """Every route leads to one split of two models; every caller has a key and a rule of their own."""
    models = {name: Model(name, name, name, frozenset({"chat"}), frozenset({"text"})) for name in ("a", "b")}
    key = (KeySource("header", "x-session-id"),)
    rules = [Rule(f"r{n}", "permit", principals=frozenset({f"caller-{n}"})) for n in range(callers)]
    keys = [ApiKey(Principal(f"caller-{n}"), sha256(f"secret-{n}".encode()).hexdigest()) for n in range(callers)]
    return Snapshot(
        revision="bench",
        models=models,
        splits={"ab": Split("ab", key, (Variant("a", "a", 50), Variant("b", "b", 50)), "a")},
        routes={f"route-{n}": Route(f"route-{n}", "ab") for n in range(routes)},
        entrypoints=frozenset({"auto"}),
        aliases={},
        fallback="route-0",
        keys={each.sha256: each for each in keys},
        rules=RuleBook(rules),
    )


def decision(config: Snapshot, caller: int) -> Callable[[], Routed | Denied]:
    """One whole decision, again and again."""
    headers = {"authorization": f"Bearer secret-{caller}", "x-session-id": "s"}
    head = Head("llm", "POST", "/v1/chat/completions", headers, "chat")
    asked = Request("chat", head.path, "auto", Conversation((Turn("user", "hello"),)), headers=headers)
    best = f"route-{len(config.routes) // 2}"
    # A ranking of a thousand routes is a classifier's output; its length is not the decision's doing.
    scores = Scores({best: 0.9, "route-0": 0.1}, threshold=0.5)

    def decide_once() -> Routed | Denied:
        who = identify(config, head, now=0.0)
        if isinstance(who, Denied):
            return who
        admitted = admit(config, asked, who, now=0.0)
        if isinstance(admitted, Denied):
            return admitted
        aim = choose(config, admitted, scores) if isinstance(admitted, ByIntent) else admitted
        return decide(config, asked, who, aim, request_id="r", now=0.0)

    return decide_once


def measure() -> list[Figure]:
    """Both kinds of growth."""
    figures: list[Figure] = []
    for what, sizes, made in (
        ("routes", ROUTES, [snapshot(routes=size, callers=10) for size in ROUTES]),
        ("keys and rules", RULES, [snapshot(routes=10, callers=size) for size in RULES]),
    ):
        calls = [decision(config, len(config.keys) // 2) for config in made]
        assert all(isinstance(call(), Routed) for call in calls), "the bench's own request is refused"
        samples: list[list[float]] = [[] for _ in calls]
        for _ in range(TURNS):
            for call, found in zip(calls, samples, strict=True):
                began = perf_counter()
                for _ in range(BATCH):
                    call()
                found.append((perf_counter() - began) / BATCH * 1e6)
        medians = [statistics.median(found) for found in samples]
        figures += [
            Figure(what, size, round(median, 1), round(median / medians[0], 2))
            for size, median in zip(sizes, medians, strict=True)
        ]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.decision", description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = measure()
    if asked.json:
        print(json.dumps([asdict(each) for each in figures], indent=2))
        return
    table = Table(title="One pure decision")
    for name in ("what grows", "size", "p50 µs", "growth (aim: below 2)"):
        table.add_column(name, justify="right")
    for each in figures:
        table.add_row(each.what, str(each.size), f"{each.p50_us:.1f}", f"{each.growth:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
