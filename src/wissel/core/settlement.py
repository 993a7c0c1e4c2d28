"""What a request came to, as limits count it.

The model's own count is the truth, once the answer is over. Where it is missing,
or the caller left before, the larger of what was reserved and what was seen is
kept: neither hanging up nor an answer that cannot be read buys anything. A model
that failed costs what it gave until then.
"""

from wissel.core.limits import Reservation, Used, nano_usd
from wissel.core.outcome import Outcome, Usage
from wissel.core.snapshot import Model


def used(reserved: Reservation, outcome: Outcome | None, served: Model | None = None) -> Used:
    """Of a request that went on; `outcome` is None if nothing is known of what followed.

    `served` is the model that answered, where another was asked before: its price counts. One that failed before it
    began to answer is taken to have cost nothing.
    """
    usage = _usage(reserved, outcome)
    tokens = usage.input_tokens, usage.output_tokens
    model = served or reserved.model
    return Used(sum(tokens), nano_usd(model, *tokens, usage.cached_tokens) if model else 0)


def _usage(reserved: Reservation, outcome: Outcome | None) -> Usage:
    held = Usage(reserved.estimate.input_tokens, reserved.estimate.output_tokens)
    if outcome is None:
        return held
    told = outcome.usage
    seen = Usage(0, max(outcome.chunks, outcome.seen_tokens))
    if outcome.hung_up:
        # Some streams count as they go.
        return _larger(held, _larger(seen, told or Usage()))
    if outcome.is_error or outcome.status >= 400:
        # What it wrote before it failed was paid for, and so was the question.
        return _larger(seen, told or Usage(held.input_tokens if seen.output_tokens else 0))
    if told is None:
        return _larger(held, seen)
    # A count of nothing is no count.
    output_tokens = told.output_tokens or seen.output_tokens
    return Usage(told.input_tokens or held.input_tokens, output_tokens, told.cached_tokens)


def _larger(one: Usage, other: Usage) -> Usage:
    return Usage(
        max(one.input_tokens, other.input_tokens),
        max(one.output_tokens, other.output_tokens),
        # What was read from a cache is certain only of what was told in the end.
    )
