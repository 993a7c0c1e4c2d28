"""The names of everything in Redis.

All begin with `wissel:`. What stands in braces is hashed by Redis Cluster, so
names with the same braces lie in one slot and can be changed by one script.
Names from the configuration are percent-encoded: none can break out. What a
caller chooses, and is longer than 200 bytes, stands there as its SHA-256.

| key                                   | type   | holds                                        | lives       |
|---------------------------------------|--------|----------------------------------------------|-------------|
| `wissel:{NS}:versions`                | hash   | rollout → version of its record              | for ever    |
| `wissel:{NS}:rollout:NAME`            | string | the record, JSON                             | for ever    |
| `wissel:{NS}:lease`                   | string | the controller that holds it                 | 5 seconds   |
| `wissel:{NS}:fence`                   | string | the latest lease's token                     | for ever    |
| `wissel:{NS}:audit`                   | stream | every change of state                        | 10,000 lines|
| `wissel:{NS}:looks:SPLIT`             | string | what a split's tests have seen, JSON         | 7 days      |
| `wissel:{NS/SPLIT}:SCOPE:pieces`      | hash   | source → its last piece and when; `folded`   | 7 days      |
| `wissel:{NS/SPLIT}:SCOPE:counts`      | hash   | what all sources counted, summed             | 7 days      |
| `wissel:{NS/SPLIT}:SCOPE:open`        | hash   | source → what it knows beyond what it closed | 7 days      |
| `wissel:{NS/SPLIT}:SCOPE:folding`     | string | that somebody has just looked for the gone   | 30 seconds  |
| `wissel:{NS/SPLIT}:SCOPE:keys`        | set    | hashes of targeting keys that were met       | 7 days      |
| `wissel:{NS/SPLIT}:SCOPE:met`         | hash   | arm → how many of them                       | 7 days      |
| `wissel:{NS}:lessons:TIER`            | stream | what a tier learns from, scores beside it    | `learn.keep`|
| `wissel:{NS/request/ID}:served`       | string | what feedback on a request is for, JSON      | 24 hours    |
| `wissel:{NS/request/ID}:score`        | string | the feedback on it                           | 24 hours    |
| `wissel:{NS/origin/KIND/ID}`          | string | where an answer was made and for whom, JSON  | `affinity.keep`|
| `wissel:{NS/answers/KIND/OWNER}`      | zset   | id of an answer → when it was made; 1,000    | `affinity.keep`|
| `wissel:{NS}:api-keys`                | hash   | public id → managed key, JSON                | for ever    |
| `wissel:{NS}:api-keys:version`        | string | grows with every change of a key             | for ever    |
| `wissel:{NS}:resting`                 | hash   | model → why and until when it rests, JSON    | 10 minutes  |
| `wissel:{NS/limits}:LIMIT:KIND:RATE:OF` | string | a bucket's debt and when; a period's spend | until full   |
| (of concurrent requests)              | zset   | request → when its place is free again       | 15 minutes  |
| `wissel:{NS/limits}:settled:ID`       | string | that a request was settled                   | 2 minutes   |
| `wissel:{NS/limits}:replicas`         | zset   | replica → when it last asked                 | 1 minute    |
| `…:touched`, of both                  | string | that changes are taken                       | 1 minute    |

NS is the configuration's namespace. SCOPE is `REVISION:ATTEMPT:STEP`. SOURCE is
`REPLICA.BOOT.N`: one life of one replica, and the N-th time that it took up
this scope. Counters live from the last write on. What lives for ever must never be
evicted: `maxmemory-policy` is to be `noeviction` or `volatile-*`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from wissel.core.affinity import MadeId
from wissel.store.base import Scope

COUNTERS_TTL: Final = 7 * 24 * 3600
"""Seconds for which counters are kept after the last write to their scope."""

FEEDBACK_TTL: Final = 24 * 3600
"""Seconds within which feedback on a request is taken."""

MOST_BYTES: Final = 200
"""Of what a caller chooses in a name, such as a header's value; what is longer is named by its hash."""

AUDIT_LENGTH: Final = 10_000
"""Entries of the audit trail that are kept, about."""


@dataclass(frozen=True, slots=True)
class ScopeKeys:
    """The keys of one scope's counters; all in one slot."""

    prefix: str

    @property
    def sources(self) -> str:
        return f"{self.prefix}:pieces"

    @property
    def counts(self) -> str:
        return f"{self.prefix}:counts"

    @property
    def open(self) -> str:
        return f"{self.prefix}:open"

    @property
    def folding(self) -> str:
        return f"{self.prefix}:folding"

    @property
    def keys(self) -> str:
        return f"{self.prefix}:keys"

    @property
    def met(self) -> str:
        return f"{self.prefix}:met"


@lru_cache(maxsize=4096)
def _quoted(part: str) -> str:
    # Every request asks for the same few, and to quote one takes longer than the rest of its name.
    written = part.encode("utf-8", "surrogatepass")
    if len(written) > MOST_BYTES:
        return f"sha256-{sha256(written).hexdigest()}"
    return quote(written, safe="/")


class Keys:
    """The keys of one configuration namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = quote(namespace, safe="")
        control = f"wissel:{{{self._namespace}}}"
        self.versions: Final = f"{control}:versions"
        self.lease: Final = f"{control}:lease"
        self.fence: Final = f"{control}:fence"
        self.audit: Final = f"{control}:audit"
        self.managed: Final = f"{control}:api-keys"
        self.managed_version: Final = f"{control}:api-keys:version"
        self.resting: Final = f"{control}:resting"
        self._record = f"{control}:rollout:"
        self._looks = f"{control}:looks:"
        self._lessons = f"{control}:lessons:"

        self._limits = f"wissel:{{{self._namespace}/limits}}"
        self.replicas: Final = f"{self._limits}:replicas"
        self.touched: Final = (f"{control}:touched", f"{self._limits}:touched")

    def meter(self, name: Sequence[str]) -> str:
        return ":".join([self._limits, *map(_quoted, name)])

    def settled(self, drawn: str) -> str:
        return f"{self._limits}:settled:{drawn}"

    def record(self, rollout: str) -> str:
        return self._record + quote(rollout, safe="")

    def looks(self, split: str) -> str:
        return self._looks + quote(split, safe="")

    def lessons(self, tier: str) -> str:
        return self._lessons + quote(tier, safe="")

    def scope(self, scope: Scope) -> ScopeKeys:
        tag = f"{{{self._namespace}/{quote(scope.split, safe='')}}}"
        return ScopeKeys(f"wissel:{tag}:{quote(scope.revision, safe='')}:{scope.attempt}:{scope.step}")

    def origin(self, made: MadeId) -> str:
        return f"wissel:{{{self._namespace}/origin/{_quoted(made.kind)}/{_quoted(made.id)}}}"

    def answers(self, kind: str, owner: str) -> str:
        return f"wissel:{{{self._namespace}/answers/{_quoted(kind)}/{owner}}}"

    def served(self, request_id: str) -> str:
        return f"{self._request(request_id)}:served"

    def score(self, request_id: str) -> str:
        return f"{self._request(request_id)}:score"

    def _request(self, request_id: str) -> str:
        return f"wissel:{{{self._namespace}/request/{quote(request_id, safe='', errors='surrogatepass')}}}"
