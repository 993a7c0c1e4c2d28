"""Deterministic weighted assignment.

The same key always meets the same variant of a split, with nothing stored:
the key is hashed to a point on the line of weights, and the variant that
covers the point is the one assigned. All arithmetic is on integers, so every
replica agrees and a weight of one is never rounded away. The canary comes
first on the line: raising its weight never moves a key back to stable.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Literal

import mmh3

from wissel.core.access import HeaderMatch, Principal
from wissel.core.conversation import ConversationIds, conversation_key
from wissel.core.request import Request

KeyKind = Literal["header", "claim", "principal", "conversation", "request"]

Reason = Literal["split", "targeting_match", "static", "default", "error"]
"""OpenFeature's words for why a variant was served."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a targeting key is looked for."""

    kind: KeyKind
    name: str = ""
    """Of the header or claim."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class TargetingKey:
    source: KeySource
    value: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm of a split."""

    name: str
    model: str
    weight: int


@dataclass(frozen=True, slots=True)
class Match:
    """Which callers are targeted: all conditions must hold."""

    headers: tuple[HeaderMatch, ...] = ()
    claims: tuple[HeaderMatch, ...] = ()
    """The same conditions on the caller's claims."""

    def fits(self, headers: Mapping[str, str], claims: Mapping[str, str]) -> bool:
        return all(each.matches(headers) for each in self.headers) and all(each.matches(claims) for each in self.claims)


@dataclass(frozen=True, slots=True)
class Split:
    """Variants in the order in which they lie on the line."""

    name: str
    key: tuple[KeySource, ...]
    variants: tuple[Variant, ...]
    default: str
    """The variant for a request without a key: the first as written; of a rollout, stable."""
    match: Match | None = None
    """Callers that meet it get `matched`, whatever the weights."""
    matched: str = ""
    revision: str = ""
    """A hash of what is compared; together with `attempt` and `step` it says which counters an outcome belongs to."""
    attempt: int = 0
    step: int = 0
    caller_share: float = 1.0
    """Of an arm's evidence that may be one caller's."""
    salt: str = field(default="", repr=False)
    """A secret that keys are dealt out with; empty for flagd's own bucketing, which everybody can work out."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which variant, and how it was found."""

    variant: Variant
    reason: Reason
    key: TargetingKey | None = None
    bucket: int | None = None
    """The key's point on the line of weights, in [0, total weight)."""


def targeting_key(
    sources: tuple[KeySource, ...],
    request: Request,
    caller: Principal,
    request_id: str,
    ids: ConversationIds,
) -> TargetingKey | None:
    """The first source that this request has; an empty value counts as absent."""
    for source in sources:
        value = _value(source, request, caller, request_id, ids)
        if value:
            return TargetingKey(source, value)
    return None


def _value(source: KeySource, request: Request, caller: Principal, request_id: str, ids: ConversationIds) -> str | None:
    match source.kind:
        case "header":
            return request.headers.get(source.name)
        case "claim":
            return caller.claims.get(source.name)
        case "principal":
            return caller.id
        case "conversation":
            return conversation_key(request, ids)
        case "request":
            return request_id


def bucket(name: str, key: str, total: int, salt: str = "") -> int:
    """The key's point in [0, total), as flagd computes it: `(murmur3_32(name/key) × total) >> 32`.

    With an empty name the bare key is hashed, as in flagd's own test vectors. With
    a salt the hash is BLAKE2b, for whoever sees arms and keys can work out what a murmur3 began with.
    """
    text = (f"{name}/{key}" if name else key).encode("utf-8", "surrogatepass")
    if salt:
        hashed = int.from_bytes(blake2b(text, digest_size=4, key=sha256(salt.encode()).digest()).digest())
    else:
        hashed = mmh3.hash(text, signed=False)
    return (hashed * total) >> 32


def variant_at(variants: Iterable[Variant], point: int) -> Variant:
    """The variant that covers `point`; `point` lies in [0, total weight)."""
    for variant in variants:
        point -= variant.weight
        if point < 0:
            return variant
    raise IndexError(f"point lies {point} past the last variant")


def dealt(split: Split, key: TargetingKey) -> Variant:
    """The variant that the key alone would meet, were every arm able and nobody targeted."""
    total = sum(variant.weight for variant in split.variants)
    return variant_at(split.variants, bucket(split.name, key.value, total, split.salt))


def is_of_another_arm(answered: str, asked: str, others: Iterable[str]) -> bool:
    """Whether the model that an answer names is what `others` of a split ask for, and not what was `asked` for.

    A server of several models may fall back to another behind our back. Answers
    often name a version (`gpt-4o-mini-2024-07-18`), so the name that explains most of it counts.
    """
    named = [name for name in (asked, *others) if name and answered.startswith(name)]
    return bool(named) and max(named, key=len) != asked


def assign(
    split: Split,
    key: TargetingKey | None,
    *,
    able: Collection[str],
    headers: Mapping[str, str] | None = None,
    claims: Mapping[str, str] | None = None,
) -> Assignment | None:
    """The variant for this key among those whose model is `able`; None if there is none.

    A variant of weight zero is served to nobody but the callers that `match`
    names. A caller for whom an arm is not able leaves the experiment: the rest
    of the line is dealt out by the same key, with reason `default`.
    """
    if split.match and split.match.fits(headers or {}, claims or {}):
        matched = next((v for v in split.variants if v.name == split.matched and v.model in able), None)
        if matched:
            return Assignment(matched, "targeting_match", key)
    weighted = [variant for variant in split.variants if variant.weight]
    usable = [variant for variant in weighted if variant.model in able]
    if not usable:
        return None
    if key is None:
        return Assignment(next((v for v in usable if v.name == split.default), usable[0]), "default")
    total = sum(variant.weight for variant in usable)
    point = bucket(split.name, key.value, total, split.salt)
    reason: Reason = "split" if len(usable) == len(weighted) else "default"
    return Assignment(variant_at(usable, point), reason, key, point)
