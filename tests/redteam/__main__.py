"""Attack a wissel behind a real Envoy on loopback:  python -m redteam [--only NAME…] [--seconds 3] [--unbounded]

Prints a table of what a bystander met; exit 1 where an aim is missed. With
`--unbounded` the bounds on bodies are off, which has to miss one.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from redteam.attacks import ATTACKS
from redteam.field import Found, running_field, table, tried

UNBOUNDED: Final = dict.fromkeys(("messages", "parts", "members", "values", "fields", "lines"), 10_000_000)


async def attack(names: frozenset[str], seconds: float, bounds: dict[str, int]) -> list[Found]:
    with tempfile.TemporaryDirectory() as home:
        async with running_field(Path(home), bounds) as stage:
            found: list[Found] = []
            for each in ATTACKS:
                if not names or each.name in names:
                    found.append(await tried(stage, each, seconds=seconds))
                    print(each.name, "; ".join(found[-1].missed) or "held", file=sys.stderr, flush=True)
            return found


def main() -> None:
    asked = argparse.ArgumentParser(prog="redteam", description=__doc__)
    asked.add_argument("--only", nargs="*", default=[], choices=[each.name for each in ATTACKS], metavar="NAME")
    asked.add_argument("--seconds", type=float, default=3.0, help="of each attack")
    asked.add_argument("--unbounded", action="store_true", help="without the bounds on bodies")
    told = asked.parse_args()
    found = asyncio.run(attack(frozenset(told.only), told.seconds, UNBOUNDED if told.unbounded else {}))
    print(table(found))
    sys.exit(any(each.missed for each in found))


if __name__ == "__main__":
    main()
