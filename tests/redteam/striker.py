"""One attack in a process of its own:  python -m redteam.striker NAME HOST KEY SECONDS

Says `ready` when it is prepared, waits for a line, and strikes until its time
is up; the last line is a JSON object of how often it was answered with what.
"""

import json
import sys
import time
from collections import Counter

from redteam.attack import Target
from redteam.attacks import ATTACKS


def main(name: str, host: str, key: str, seconds: float) -> None:
    [attack] = [each for each in ATTACKS if each.name == name]
    blow, target = attack.prepare(), Target(host, key)
    print("ready", flush=True)
    sys.stdin.readline()
    answers: Counter[int] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answers += blow(target)
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]))
