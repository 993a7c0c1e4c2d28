"""What is right in a configuration and should be known all the same."""

from wissel.config.model import Config
from wissel.core.rollouts.callers import FEWEST


def caller_notes(config: Config) -> list[str]:
    """That one caller may decide a rollout alone."""
    judged = [each.name for each in config.rollouts if each.analysis is not None and each.analysis.caller_share < 1]
    access = config.access
    if not judged or (access is not None and (access.jwt or access.spiffe or access.envoy_identity)):
        return []
    named = ", ".join(f'"{name}"' for name in judged)
    if access is None:
        return [
            (
                f"rollouts {named}: without `access` callers are not told apart, and one may be all the evidence; "
                "set a limit in front, or give callers keys"
            )
        ]
    if len(access.keys) >= FEWEST:
        return []
    return [
        (
            f"rollouts {named}: the file has {len(access.keys)} callers, and only from {FEWEST} on is one held to "
            "analysis.caller_share of the evidence; managed keys count as well"
        )
    ]
