"""What is right in a configuration and should be known all the same."""

from wissel.apis.table import PATHS
from wissel.config.model import Config, Credential
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


def price_notes(config: Config) -> list[str]:
    """That dollars are limited, and what some models cost is not said."""
    limits = config.access.limits if config.access else ()
    unpriced = [model.name for model in config.models if model.price is None]
    if not unpriced or not any(limit.usd is not None for limit in limits):
        return []
    named = ", ".join(f'"{name}"' for name in unpriced)
    return [f"limits in usd count nothing of models {named}, which have no `price`: a spent budget does not stop them"]


def passthrough_notes(config: Config) -> list[str]:
    """One sentence for each passthrough that does not do what whoever wrote it may expect."""
    shown = {model.cluster for model in config.models if isinstance(model.credential, Credential)}
    notes: list[str] = []
    for entry in config.passthrough:
        place = f'passthrough "{entry.path_prefix}"'
        if entry.path_prefix in PATHS:
            notes.append(
                f"{place} is not used for POST: such a call goes to the server of the model that it names; "
                "give the model what it needs, and remove this entry"
            )
        elif config.access is not None and entry.credential is None and entry.cluster in shown:
            notes.append(
                f'{place} has no credential, and models of its cluster "{entry.cluster}" have one: a key that wissel '
                "took from a caller goes no further, so that server is shown none"
            )
    return notes
