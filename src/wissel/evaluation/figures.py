"""The numbers that describe a classifier: from what was wanted and what was said to one figure each."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10
"""Of confidence, when it is compared with accuracy."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How one route fares."""

    precision: float
    recall: float
    f1: float
    support: int
    """Rows that belong to it."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of about the same confidence."""

    confidence: float
    accuracy: float
    count: int


def qualities(wanted: Sequence[str], predicted: Sequence[str]) -> dict[str, Quality]:
    """By route, those that are only predicted included."""
    right = Counter(want for want, said in zip(wanted, predicted, strict=True) if want == said)
    support, told = Counter(wanted), Counter(predicted)
    found: dict[str, Quality] = {}
    for route in sorted({*support, *told}):
        precision = right[route] / told[route] if told[route] else 0.0
        recall = right[route] / support[route] if support[route] else 0.0
        f1 = 2 * precision * recall / (precision + recall) if right[route] else 0.0
        found[route] = Quality(precision, recall, f1, support[route])
    return found


def macro_f1(found: Mapping[str, Quality]) -> float:
    """The mean over the routes that rows belong to."""
    return math.fsum(each.f1 for each in found.values() if each.support) / max(
        1, sum(1 for each in found.values() if each.support)
    )


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float | None:
    """The chance that a positive scores above a negative, ties counting half; None without one of each."""
    if not positives or not negatives:
        return None
    scores = np.concatenate([positives, negatives])
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    above = ranks[: len(positives)].sum() - len(positives) * (len(positives) + 1) / 2
    return float(above / (len(positives) * len(negatives)))


def recall_at(positives: Sequence[float], negatives: Sequence[float], false_alarms: float) -> float | None:
    """The share of positives above the score that `false_alarms` of the negatives pass; None without one of each."""
    if not positives or not negatives:
        return None
    limit = float(np.quantile(negatives, 1 - false_alarms, method="higher"))
    return sum(score > limit for score in positives) / len(positives)


def reliability(confidence: Sequence[float], right: Sequence[bool]) -> list[Bin]:
    """Rows in `BINS` bins of confidence from 0 to 1, empty ones left out."""
    place = [min(BINS - 1, max(0, int(each * BINS))) for each in confidence]
    bins: list[Bin] = []
    for number in range(BINS):
        rows = [row for row, each in enumerate(place) if each == number]
        if rows:
            sure = math.fsum(confidence[row] for row in rows) / len(rows)
            bins.append(Bin(sure, sum(right[row] for row in rows) / len(rows), len(rows)))
    return bins


def calibration_error(bins: Iterable[Bin]) -> float:
    """The expected calibration error (Naeini et al. 2015)."""
    bins = list(bins)
    total = sum(each.count for each in bins)
    return math.fsum(each.count * abs(each.confidence - each.accuracy) for each in bins) / max(1, total)


def share_of_whole(groups: Sequence[Hashable], right: Sequence[bool]) -> float | None:
    """The share of groups whose every row is right, rows of the group None aside; None without groups."""
    whole: dict[Hashable, bool] = {}
    for group, each in zip(groups, right, strict=True):
        if group is not None:
            whole[group] = whole.get(group, True) and each
    return sum(whole.values()) / len(whole) if whole else None


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value that both are right equally often, from the rows where just one is right."""
    count = only_first + only_second
    if not count:
        return 1.0
    fewer = min(only_first, only_second)
    logs = (
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
        for k in range(fewer + 1)
    )
    return min(1.0, 2 * math.fsum(math.exp(log) for log in logs))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
