"""Many things at once of one caller, each small: what is begun and never ended, and what takes long to understand."""

import json
import socket
import time
from collections import Counter
from typing import Final

from redteam.attack import Attack, Blow, Target, at_once

TEXTS: Final = 24
"""Long new texts at once."""
WORDS: Final = 3000
UPLOADS: Final = 400
"""Bodies of a MiB that are begun, and of which nothing more comes."""
HELD_SECONDS: Final = 2


def _long_texts() -> Blow:
    told = iter(range(1_000_000))

    def blow(target: Target, hand: int) -> int:
        # A text that nobody wrote before, so that no vector of it is remembered.
        text = " ".join(f"passage {hand}-{next(told)} of the minutes" for _ in range(WORDS // 5))
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        return target.post("/v1/chat/completions", json.dumps(body).encode())

    return at_once(TEXTS, blow)


def _unfinished() -> Blow:
    def blow(target: Target) -> Counter[int]:
        host, port = target.host.rsplit(":", 1)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {target.key}\r\n"
        begun = f'{head}content-type: application/json\r\ncontent-length: {1 << 20}\r\n\r\n{{"model":"attacked"'
        held: list[socket.socket] = []
        try:
            for _ in range(UPLOADS):
                held.append(socket.create_connection((host, int(port)), timeout=10))
                held[-1].sendall(begun.encode())
            time.sleep(HELD_SECONDS)
        finally:
            for each in held:
                each.close()
        return Counter({0: len(held)})

    return blow


ATTACKS: Final = (
    Attack(
        "long-texts", f"{TEXTS} new texts of {WORDS} words at once, whose intent is asked", _long_texts, asks="auto"
    ),
    Attack("unfinished", f"{UPLOADS} bodies that are begun, and not ended for {HELD_SECONDS} s", _unfinished),
)
