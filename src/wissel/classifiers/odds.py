"""From the log-probabilities of a server's tokens to a probability for each answer.

    the answer, token by token, with the likeliest others at each place -> probabilities of the legal answers

At each place the alternatives that still lead to a legal answer share the
probability among themselves, and those that the server's own choice leaves
behind keep their share. What lies beyond them was not computed: answers that
left at the same place, by the same token, share equally.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TokenOdds:
    """One token that the server wrote."""

    token: str
    logprob: float
    others: Mapping[str, float] = field(default_factory=dict[str, float])
    """The likeliest tokens at this place, which may include the one that was written, with their log-probabilities."""


def spread(answers: Mapping[str, str], steps: Sequence[TokenOdds]) -> dict[str, float] | None:
    """The probability of each of `answers` (name to text), adding up to one; None where `steps` write none of them.

    White space and the kind of quotes do not matter.
    """
    texts = {name: _plain(text) for name, text in answers.items()}
    shares = dict.fromkeys(texts, 0.0)
    alive, written, left = set(texts), "", 1.0
    for step in steps:
        if len(alive) == 1:
            break
        leads = _leads(step, written, {name: texts[name] for name in alive})
        chosen = leads.pop(step.token, None)
        if chosen is None:
            return None
        weights = {token: math.exp(_logprob(step, token)) for token in leads}
        own = math.exp(step.logprob)
        total = own + sum(weights.values())
        for token, names in leads.items():
            gone = names - chosen
            for name in gone:
                # An answer that two spellings lead to gets both shares.
                shares[name] += left * weights[token] / total / len(gone)
        left -= sum(left * weights[token] / total for token, names in leads.items() if names - chosen)
        written += _plain(step.token)
        alive = chosen
    if len(alive) != 1:
        return None
    shares[alive.pop()] += left
    return shares


def with_leader(probabilities: Mapping[str, float], answer: str) -> dict[str, float]:
    """`probabilities` with `answer` on top, because it is what greedy decoding says.

    Where answers part more than once, another one can be likelier as a whole; it is held just below.
    """
    top = probabilities[answer]
    below = math.nextafter(top, 0.0)
    return {name: top if name == answer else min(odds, below) for name, odds in probabilities.items()}


def _leads(step: TokenOdds, written: str, texts: Mapping[str, str]) -> dict[str, set[str]]:
    """The tokens at this place that lead to a legal answer, and to which ones."""
    leads: dict[str, set[str]] = {}
    for token in {step.token, *step.others}:
        text = written + _plain(token)
        names = {name for name, answer in texts.items() if answer.startswith(text) or text.startswith(answer)}
        if names:
            leads[token] = names
    return leads


def _logprob(step: TokenOdds, token: str) -> float:
    return step.logprob if token == step.token else step.others[token]


def _plain(text: str) -> str:
    return "".join(text.split()).replace("'", '"')
