"""Routes that a classifier will mix up, or never find, seen before any request comes.

    routes -> phrases -> vectors -> pairs that lie too close, routes that say too little -> remarks

Every classifier reads the same words, so two descriptions that one sentence
encoder cannot tell apart are hard for all of them, and for people.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wissel.classifiers.phrases import phrases_of
from wissel.classifiers.threshold import centroid_of
from wissel.core.snapshot import Route
from wissel.encoders.base import Encode, Vectors
from wissel.encoders.knowledge import Knowledge
from wissel.encoders.script import NONE, OTHER, script_of

OVERLAP = 0.8
"""The cosine of two routes' mean phrases from which they are taken for each other."""

SAME = 0.92
"""The cosine of two phrases that say the same."""

FEW_WORDS = 2
"""A description of fewer words that mean something says too little."""

EMPTY_WORDS = frozenset(
    "a an and any anything all are about else everything for general generic help in is it misc miscellaneous of on "  # noqa: SIM905  a list would be a page
    "or other others question questions request requests some something stuff task tasks that the things to user "
    "users various with".split()
)
"""Words that tell no route from another."""


LOOSE_WORDS = frozenset(
    "answer chat content data do get give handle make message need query response service support talk task text "  # noqa: SIM905  as above
    "tell tool topic type use work write".split()
)
"""Words of a domain or an action that any route could have."""

OWN_LEAD = 0.1
"""By which such a word must be nearer to its own route than to any other to tell it all the same: "data" of tables."""

TELLING_SHARE = 0.02
"""Of the data, in a script or not understood, that is worth a remark."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What is wrong with a route, or with a pair, and what would be better."""

    kind: Literal["overlap", "same phrase", "vague", "one language", "unknown language", "loose word"]
    routes: tuple[str, ...]
    what: str
    suggestion: str


def lint(
    routes: Iterable[Route],
    encode: Encode,
    *,
    fallback: str = "",
    known: Knowledge | None = None,
    traffic: Sequence[str] = (),
) -> list[Remark]:
    """The remarks, the closest pair first. The `fallback` may be vague: it is what no other route describes.

    With what the encoder has `known` also languages are looked at: those of the examples and of the `traffic`.
    """
    routes = tuple(routes)
    described = [route for route in routes if route.description or route.examples]
    phrases = [tuple(dict.fromkeys((*phrases_of(route), *route.examples))) for route in described]
    vectors = [encode(each) for each in phrases]
    pairs = [_pair(*each) for each in combinations(zip(described, phrases, vectors, strict=True), 2)]
    close = sorted((each for each in pairs if each), key=lambda each: -each[0])
    return [
        *(remark for _, remark in close),
        *(_vague(route) for route in described if route.name != fallback and _says_little(route)),
        *_loose_words(described, encode),
        *(_languages(described, encode, known, traffic) if known else ()),
    ]


def _loose_words(described: Sequence[Route], encode: Encode) -> Iterable[Remark]:
    """A domain or an action that tells nothing of its route: it could be anyone's, or is nearer to another route."""
    centres = {each.name: centroid_of(encode(_without_words(each))) for each in described}
    for route in described:
        for place, word in (("domain", route.domain), ("action", route.action)):
            if word and (why := _why_loose(route, word, described, encode, centres)):
                yield Remark(
                    "loose word",
                    (route.name,),
                    f'the {place} "{word}" {why}',
                    f"name what the {place} is about in two or three words, or leave it out",
                )


def _without_words(route: Route) -> list[str]:
    return [route.name.replace("_", " "), *filter(None, (route.description,)), *route.examples]


def _why_loose(
    route: Route, word: str, described: Sequence[Route], encode: Encode, centres: Mapping[str, NDArray[np.float32]]
) -> str:
    """Empty if it is not."""
    asked = encode([word])[0]
    # What several routes share as a domain or an action tells them from the rest.
    others = {each.name: float(asked @ centres[each.name]) for each in described if word not in _words_of(each)}
    nearest = max(others, key=lambda name: others[name], default="")
    lead = float(asked @ centres[route.name]) - others[nearest] if nearest else 0.0
    if _is_loose(word) and lead < OWN_LEAD:
        return "could be said of any route, so it tells nothing of this one"
    return f'is nearer to "{nearest}" than to this route' if lead < 0 else ""


def _words_of(route: Route) -> tuple[str | None, str | None]:
    return route.domain, route.action


def _is_loose(word: str) -> bool:
    return not ({*word.lower().replace("_", " ").split()} - EMPTY_WORDS - LOOSE_WORDS)


def _languages(
    described: Sequence[Route], encode: Encode, known: Knowledge, traffic: Sequence[str]
) -> Iterable[Remark]:
    """What is written in scripts that no example has, and what the encoder does not understand."""
    if not traffic:
        return
    seen = Counter(script_of(text) for text in traffic)
    exemplified = {route.name: {script_of(text) for text in route.examples} for route in described if route.examples}
    for script, count in seen.most_common():
        share = count / len(traffic)
        missing = tuple(name for name, scripts in exemplified.items() if script not in scripts)
        if script not in {NONE, OTHER} and share >= TELLING_SHARE and missing and script in known.scripts:
            yield Remark(
                "one language",
                missing,
                f"{share:.0%} of the data is written in {script}, in which they have no example",
                "add two or three examples in that language: requests in it score lower than others do",
            )
    strange = [
        text for text, vector in zip(traffic, encode(traffic), strict=True) if not known.understands(text, vector)
    ]
    if len(strange) >= TELLING_SHARE * len(traffic):
        yield Remark(
            "unknown language",
            (),
            f"{len(strange) / len(traffic):.0%} of the data is not understood, {strange[0][:60]!r} for one",
            f"the encoder knows {', '.join(known.languages)}; name another one as intent.encoder",
        )


_Described = tuple[Route, Sequence[str], Vectors]


def _pair(first: _Described, second: _Described) -> tuple[float, Remark] | None:
    (one, our_phrases, ours), (two, their_phrases, theirs) = first, second
    cosines = ours @ theirs.T
    place, other = divmod(int(cosines.argmax()), len(their_phrases))
    nearest = float(cosines[place, other])
    names = (one.name, two.name)
    clash = f'"{our_phrases[place]}" and "{their_phrases[other]}"'
    # What both share as a domain or an action is meant to be shared.
    shared = {one.domain, one.action} & {two.domain, two.action}
    if nearest >= SAME and our_phrases[place] not in shared:
        return nearest, Remark(
            "same phrase",
            names,
            f"{clash} say the same (cosine {nearest:.2f})",
            f"keep it for one of them, or give the two one target: {one.name} or {two.name}",
        )
    together = float(centroid_of(ours) @ centroid_of(theirs))
    if together < OVERLAP:
        return None
    return together, Remark(
        "overlap",
        names,
        f"they lie close together (cosine {together:.2f}), nearest are {clash}",
        "say in each description what the other one does not do, or add three examples to each",
    )


def _says_little(route: Route) -> bool:
    if route.examples:
        return False
    words = {word.strip(".,;:!?\"'()").lower() for word in route.description.split()}
    return len(words - EMPTY_WORDS) < FEW_WORDS


def _vague(route: Route) -> Remark:
    return Remark(
        "vague",
        (route.name,),
        f'"{route.description}" names hardly anything that a request could be about',
        "name the things and the verbs that users write, or add three examples",
    )
