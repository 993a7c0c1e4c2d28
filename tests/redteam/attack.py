"""What an attack is: a name, what it does, and one blow, which is struck again and again until its time is up.

An attack runs in a process of its own, from one connection of one caller, so
that what it costs itself is not taken for what it costs others. It is added by
a row of `attacks.ATTACKS`.
"""

import http.client
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class Target:
    """Where an attack goes, and as whom."""

    host: str
    key: str

    def post(self, path: str, body: bytes, content_type: str = "application/json", **headers: str) -> int:
        """The status; 0 where the connection was ended."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            told = {"authorization": f"Bearer {self.key}", "content-type": content_type, **named}
            connection.request("POST", path, body, told)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


Blow = Callable[[Target], Counter[int]]
"""How often it was answered with which status."""


def at_once(count: int, blow: Callable[[Target, int], int]) -> Blow:
    """One that is struck by many hands at the same time; each is told which it is."""

    def struck(target: Target) -> Counter[int]:
        with ThreadPoolExecutor(count) as hands:
            return Counter(hands.map(lambda hand: blow(target, hand), range(count)))

    return struck


@dataclass(frozen=True)
class Attack:
    name: str
    says: str
    """What it does, for a reader of the table."""
    prepare: Callable[[], Blow]
    """Whatever takes long is made here, before the clock runs."""
    asks: str = "open"
    """Which model the bystander asks for: one by its name, or `auto`, whose intent is found."""
    in_sample: bool = False
    """Whether it is one of the few that `make test` runs."""
