"""What a request came to, as limits count it.

The model's own count is the truth. Where it is missing, what was estimated
stands, unless the caller hung up or the model failed: hanging up before the
count arrives buys nothing, and a failure costs nothing.
"""

from wissel.core.limits import Reservation, Used, nano_usd
from wissel.core.outcome import Outcome


def used(reserved: Reservation, outcome: Outcome | None) -> Used:
    """Of a request that went on; `outcome` is None if nothing is known of what followed."""
    input_tokens, output_tokens = _tokens(reserved, outcome)
    spent = nano_usd(reserved.model, input_tokens, output_tokens) if reserved.model else 0
    return Used(input_tokens + output_tokens, spent)


def _tokens(reserved: Reservation, outcome: Outcome | None) -> tuple[int, int]:
    """Input and output."""
    estimate = reserved.estimate
    if outcome is None:
        return estimate.input_tokens, 0
    if outcome.usage is not None and not outcome.hung_up:
        return outcome.usage.input_tokens, outcome.usage.output_tokens
    if outcome.hung_up:
        # Some streams count as they go; each piece of output is a token at least.
        seen = outcome.usage
        told_in, told_out = (seen.input_tokens, seen.output_tokens) if seen else (0, 0)
        return max(estimate.input_tokens, told_in), max(outcome.chunks, told_out)
    if outcome.is_error or outcome.status >= 400:
        return 0, 0
    return estimate.input_tokens, max(estimate.output_tokens, outcome.chunks)
