"""What Redis is, told by its replies, and what each means: one table.

    a reply or a failure -> State -> what it means, what to do about it, and what becomes of the connection

Everything that speaks of Redis speaks in these words: errors, the log, `/readyz`, the metric `wissel.store.state` and
its alert. A reply is told by its type or the word that it begins with, here and nowhere else.
"""

import os
import re
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal, get_args

import structlog
from redis import exceptions as replies

from wissel.errors import StoreError

log = structlog.get_logger(__name__)

State = Literal[
    "ok",
    "noauth",
    "noperm",
    "nomaster",
    "moved",
    "stranger",
    "readonly",
    "masterdown",
    "clusterdown",
    "away",
    "loading",
    "oom",
    "misconf",
    "noreplicas",
    "busy",
    "crowded",
    "moving",
    "noscript",
    "refused",
]
"""What Redis is to who asks it. Where it is several at once, the first of these is the one to say."""

STATES: Final[tuple[State, ...]] = get_args(State)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a state means."""

    means: str
    """Completes "Redis …"."""
    do: str
    """What the operator does about it."""
    drops: bool = False
    """Whether the connection leads to the wrong server, so that the address is to be looked up anew."""
    again: bool = False
    """Whether nothing was done and another try may fare better at once: the call is made once more."""


CONDITIONS: Final[Mapping[State, Condition]] = {
    "ok": Condition("answers", "nothing"),
    "noauth": Condition(
        "does not take our name and password",
        "put right the user and password of the URL in `redis`; a URL is read at the start only, so restart then",
    ),
    "noperm": Condition(
        "does not give our user a right that it needs", "give it the rights that docs/operating.md lists", drops=True
    ),
    "nomaster": Condition(
        "has Sentinels that know no primary of this name",
        "compare the name in the URL with `SENTINEL MASTERS`; while they elect one, wait",
        drops=True,
    ),
    "moved": Condition(
        "is a cluster, and the URL names one server", "write redis+cluster://HOST:PORT,HOST:PORT in `redis`"
    ),
    "stranger": Condition(
        "does not know our commands: it is a Sentinel, another program, or older than 6.2",
        "let `redis` lead to the server itself; for Sentinels write redis+sentinel://HOST:26379/NAME",
    ),
    "readonly": Condition(
        "is a replica, which takes no change",
        "let the address lead to the primary; after a failover it is looked up anew",
        drops=True,
        again=True,
    ),
    "masterdown": Condition(
        "is a replica that has lost its primary", "bring the primary back, or promote a replica", drops=True
    ),
    "clusterdown": Condition(
        "is a cluster in which some keys have no primary",
        "bring a node back for each part; `redis-cli --cluster check` names what is missing",
        drops=True,
    ),
    "away": Condition("does not answer", "see that it runs and can be reached from here", drops=True),
    "loading": Condition("reads its data from disk", "wait until it has"),
    "oom": Condition(
        "is full and takes no more",
        "give it memory (`maxmemory`), or take away what others keep there; what is there stays",
    ),
    "misconf": Condition("cannot write to its disk and takes no change", "make room on its disk, or mend it"),
    "noreplicas": Condition(
        "has fewer replicas than it must have and takes no change", "bring them back, or lower `min-replicas-to-write`"
    ),
    "busy": Condition("is held up by somebody's script", "wait, or end the script (`SCRIPT KILL`)"),
    "crowded": Condition("takes no more connections", "raise its `maxclients`, or find who holds so many"),
    "moving": Condition("is just giving these keys to another node", "wait until the slot has moved"),
    "noscript": Condition("forgot a script that it was given", "nothing: it is sent again", again=True),
    "refused": Condition("refused a command", "the log has its words; a key of ours may hold what is not ours"),
}

_BY_TYPE: Final[tuple[tuple[type[BaseException], State], ...]] = (
    (replies.NoScriptError, "noscript"),
    (replies.ReadOnlyError, "readonly"),
    (replies.OutOfMemoryError, "oom"),
    (replies.NoPermissionError, "noperm"),
    (replies.BusyLoadingError, "loading"),
    (replies.AuthenticationError, "noauth"),
    (replies.AuthenticationWrongNumberOfArgsError, "noauth"),
    (replies.MasterDownError, "masterdown"),
    (replies.ClusterDownError, "clusterdown"),
    (replies.AskError, "moved"),
    (replies.TryAgainError, "moving"),
    (replies.InvalidResponse, "stranger"),
)

_WORDS: Final[Mapping[str, State]] = {
    "OOM": "oom",
    "READONLY": "readonly",
    "NOPERM": "noperm",
    "NOAUTH": "noauth",
    "WRONGPASS": "noauth",
    "LOADING": "loading",
    "MASTERDOWN": "masterdown",
    "CLUSTERDOWN": "clusterdown",
    "MISCONF": "misconf",
    "NOREPLICAS": "noreplicas",
    "BUSY": "busy",
    "TRYAGAIN": "moving",
}
# What a script met comes at its front from Redis 7 on; from 6.2 within the words "Error running script (…): -OOM …".
_WORD: Final = re.compile(r"(?:^|: ?)-?(?P<word>[A-Z]+) ")
_SENTENCES: Final[tuple[tuple[str, State], ...]] = (
    ("ACL failure in script", "noperm"),
    ("can't run this command or subcommand", "noperm"),
    ("can't access at least one of the keys", "noperm"),
    ("max number of clients", "crowded"),
    ("unknown command", "stranger"),
    ("unknown subcommand", "stranger"),
    ("cluster support disabled", "stranger"),
    ("No such master", "nomaster"),
)
"""What has no word of its own."""

_MOST_CHARACTERS: Final = 200


class UnwellError(StoreError):
    """Redis did not do what it was asked, and `state` says what it is."""

    def __init__(self, command: str, state: State, detail: str = "") -> None:
        super().__init__(f"redis: {command}: {state}: it {CONDITIONS[state].means}{detail and f' ({detail})'}")
        self.state: Final = state


def state_of(problem: BaseException) -> State:
    """What Redis is, that answers so or cannot be asked."""
    if isinstance(problem, UnwellError):
        return problem.state
    for kind, state in _BY_TYPE:
        if isinstance(problem, kind):
            return state
    text = str(problem)
    if isinstance(problem, replies.RedisError):
        for sentence, state in _SENTENCES:
            if sentence in text:
                return state
    if isinstance(problem, replies.ResponseError):
        for found in _WORD.finditer(text):
            if found["word"] in _WORDS:
                return _WORDS[found["word"]]
        return "refused"
    return "away"


def translated(command: str, problem: BaseException, where: str) -> UnwellError:
    """What a reply or a failure is to who asked; no words of a library that might hold a URL."""
    if isinstance(problem, UnwellError):
        return problem
    state = state_of(problem)
    if state == "refused":
        return UnwellError(command, state, str(problem)[:_MOST_CHARACTERS])
    if state != "away":
        return UnwellError(command, state, where)
    return UnwellError(command, state, ", ".join(filter(None, [where, _why(problem)])))


def _why(problem: BaseException | None) -> str:
    """The operating system's reason beneath a failure."""
    while problem is not None:
        match problem:
            case TimeoutError() | replies.TimeoutError():
                return "it was not answered in time"
            case ssl.SSLError(reason=str(reason)):
                return f"TLS: {reason.lower().replace('_', ' ')}"
            case OSError(errno=int(number)) if number > 0:
                return os.strerror(number).lower()
            case OSError(strerror=str(words)):
                return words.lower()
            case _:
                problem = problem.__cause__ or problem.__context__
    return "the connection ended"


def problem_of(state: State) -> str:
    """What is wrong, and what to do, for people."""
    return f"{state}: redis {CONDITIONS[state].means}; {CONDITIONS[state].do}"


HOLDS: Final = 6.0
"""Seconds for which a failure speaks of Redis; whoever failed tries again sooner."""

ENOUGH_LATE: Final = 3
"""Answers that are late within that time, until Redis counts as away: one may be late on a busy machine."""


class RedisHealth:
    """What Redis is to this process, as its latest replies say."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._until: dict[State, float] = {}
        self._late: deque[float] = deque(maxlen=ENOUGH_LATE)
        self._told: State = "ok"

    @property
    def state(self) -> State:
        now = self._clock()
        for state in STATES:
            if self._until.get(state, now) > now:
                return state
        return "ok"

    @property
    def problem(self) -> str | None:
        """What is wrong, and what to do; None if nothing is."""
        state = self.state
        return None if state == "ok" else problem_of(state)

    def failed(self, state: State) -> None:
        """A call failed so."""
        self._until[state] = self._clock() + HOLDS
        self.tell()

    def late(self) -> None:
        """A call that had its time was not answered within it."""
        now = self._clock()
        self._late.append(now)
        if len(self._late) == ENOUGH_LATE and now - self._late[0] < HOLDS:
            self.failed("away")

    def whole(self) -> None:
        """Everything that is asked of a server was just done; a right that is lacking elsewhere still is."""
        for state in self._until.keys() - {"noperm", "refused"}:
            del self._until[state]
        self._late.clear()
        self.tell()

    def tell(self) -> None:
        """A line in the log whenever Redis is something else."""
        state = self.state
        if state == self._told:
            return
        self._told = state
        if state == "ok":
            log.info("store_well_again")
        else:
            log.warning("store_unwell", state=state, problem=self.problem)
