"""How many small changes of the code no test notices.

    python -m tests.mutation [--sample 1000] [--seed 0] [--minutes 30] [--jobs 2] [--under TEXT] [--only ID …]

Of all mutants of `core/` and `apis/` the sample takes those whose hash with the
seed is lowest: a line that changes moves its own mutants in and out of the
sample, and no other. What survives and why stands in
`tests/mutation/survivors.md`, and counts against the score as any other. Exits with 1 where fewer than nine in
ten die, or a survivor has no reason.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from tests.mutation import trial
from tests.mutation.mutants import Mutant, Mutants, mutants_of
from tests.mutation.pool import Pool
from tests.mutation.traced import Traced
from tests.mutation.trial import EVERYWHERE, NEIGHBOURS, OUT_OF_TIME, ROOT, SOURCES, Trial

SURVIVORS: Final = ROOT / "tests/mutation/survivors.md"
ENOUGH: Final = 0.90
PATIENCE: Final = 5
"""How many times as long as on the unchanged code tests may take: a mutant may run for ever."""
IMPORT_SECONDS: Final = 5.0
"""Of CPU, that importing the code and its tests may take."""
BASELINE_SECONDS: Final = 600.0
"""Of CPU, that the tests may take on the unchanged code while lines are counted."""


def main() -> None:
    options = _options()
    os.chdir(ROOT)
    until = time.monotonic() + options.minutes * 60
    files = [path for folder in SOURCES for path in sorted(Path(folder).rglob("*.py"))]
    found = [mutants_of(str(path), path.read_text()) for path in files]
    chosen = sample(found, options.sample, options.seed, options.under, options.only)
    print(f"{len(chosen)} of {sum(len(each.mutants) for each in found)} mutants, seed {options.seed}", flush=True)
    trial.warm()
    trials: dict[str, Trial] = {}
    for mutant, answer in run(chosen, options.jobs, until):
        trials[mutant.id] = answer
        if answer.end == "survived":
            print(f"{mutant.id} {mutant.path}:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}", flush=True)
        if len(trials) % 50 == 0:
            print(f"{len(trials)} of {len(chosen)} tried", flush=True)
    if options.json:
        Path(options.json).write_text("".join(_row(mutant, trials) + "\n" for mutant in chosen if mutant.id in trials))
    sys.exit(report(chosen, trials, sum((each.left_out for each in found), Counter[str]())))


def sample(found: Sequence[Mutants], size: int, seed: int, under: str = "", only: Sequence[str] = ()) -> list[Mutant]:
    mutants = [mutant for each in found for mutant in each.mutants if under in mutant.path]
    if only:
        return [mutant for mutant in mutants if mutant.id in only]
    return sorted(mutants, key=lambda mutant: sha256(f"{seed}/{mutant.id}".encode()).digest())[:size]


def run(mutants: Sequence[Mutant], jobs: int, until: float) -> Iterator[tuple[Mutant, Trial]]:
    """Each in as many stages as it takes until a test fails, in a process of its own."""
    traced = _traced(jobs, until)
    stages = {mutant.id: trial.stages(mutant, traced) for mutant in mutants}
    pool: Pool[tuple[Mutant, int], Trial] = Pool(jobs, until)

    def ask(mutant: Mutant, stage: int) -> None:
        tests = stages[mutant.id][stage]
        seconds = sum(spent for test, spent in traced.seconds.items() if test.startswith(tests))
        # What was begun is ended first: where time runs out, what is told is told of whole trials.
        task = partial(trial.examine, mutant, tests)
        pool.add((mutant, stage), task, cpu=PATIENCE * (IMPORT_SECONDS + seconds), first=stage > 0)

    for mutant in mutants:
        if stages[mutant.id]:
            ask(mutant, 0)
        else:
            yield mutant, Trial("survived")
    for done in pool:
        mutant, stage = done.key
        answer = done.answer or Trial("killed", OUT_OF_TIME)
        if answer.end == "survived" and stage + 1 < len(stages[mutant.id]):
            ask(mutant, stage + 1)
        else:
            yield mutant, answer


def _traced(jobs: int, until: float) -> Traced:
    """Which tests run which line of the unchanged code, where they must pass."""
    pool: Pool[tuple[str, ...], Traced] = Pool(jobs, until)
    for tests in (EVERYWHERE, NEIGHBOURS):
        pool.add(tests, partial(trial.traced_by, tests), cpu=BASELINE_SECONDS)
    found = Traced({}, {})
    for done in pool:
        if done.answer is None:
            sys.exit(f"the tests fail without a mutant, or take too long: {' '.join(done.key)}")
        found |= done.answer
    return found


def report(chosen: Sequence[Mutant], trials: Mapping[str, Trial], left_out: Counter[str]) -> int:
    """Prints the score of each folder; 1 if it is too low or a survivor is not explained."""
    known = SURVIVORS.read_text()
    table = Table("folder", "mutants", "killed", "of them out of time", "survived", "score")
    ends = Counter((_folder(mutant), trials[mutant.id].end) for mutant in chosen if mutant.id in trials)
    late = Counter(_folder(mutant) for mutant in chosen if _test(trials, mutant) == OUT_OF_TIME)
    for folder in sorted({_folder(mutant) for mutant in chosen}):
        killed, survived = ends[folder, "killed"], ends[folder, "survived"]
        table.add_row(
            folder, str(killed + survived), str(killed), str(late[folder]), str(survived), _share(killed, survived)
        )
    killed, survived = (sum(n for (_, e), n in ends.items() if e == end) for end in ("killed", "survived"))
    table.add_row(
        "all", str(killed + survived), str(killed), str(late.total()), str(survived), _share(killed, survived)
    )
    Console().print(table)
    broken = sum(n for (_, end), n in ends.items() if end == "no program")
    print(f"left out of all: {', '.join(f'{n} in {what}' for what, n in left_out.items()) or 'none'}")
    print(f"left out of the sample: {broken} that are no program, {len(chosen) - len(trials)} for want of time")
    open_ends = [m.id for m in chosen if m.id in trials and trials[m.id].end == "survived" and m.id not in known]
    print(f"survivors without a reason in {SURVIVORS.relative_to(ROOT)}: {len(open_ends)} {' '.join(open_ends)}")
    return int(bool(open_ends) or killed < ENOUGH * (killed + survived))


def _folder(mutant: Mutant) -> str:
    return str(Path(mutant.path).parent.relative_to("src/wissel"))


def _test(trials: Mapping[str, Trial], mutant: Mutant) -> str:
    return trials[mutant.id].test if mutant.id in trials else ""


def _share(killed: int, survived: int) -> str:
    return f"{killed / (killed + survived):.1%}" if killed + survived else "-"


def _row(mutant: Mutant, trials: Mapping[str, Trial]) -> str:
    answer = trials[mutant.id]
    return json.dumps(
        {
            "id": mutant.id,
            "path": mutant.path,
            "line": mutant.line,
            "before": mutant.before,
            "after": mutant.after,
            "end": answer.end,
            "test": answer.test,
        }
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=1000, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another sample")
    parser.add_argument("--minutes", type=float, default=30.0, help="after which no test is begun")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--under", default="", help="only of modules whose path has this in it")
    parser.add_argument("--only", nargs="*", default=(), metavar="ID", help="these mutants, whatever the sample")
    parser.add_argument("--json", metavar="FILE", help="what became of each, one a line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
