"""What no access rule sees: the notes of `wissel check` on passthroughs."""

from wissel.config import Config
from wissel.core.access import ANYTHING
from wissel.core.snapshot import Snapshot


def uncovered(config: Config, snapshot: Snapshot) -> list[str]:
    """One sentence for each passthrough where a model can be named that no rule is asked about."""
    rules = () if snapshot.rules is None else snapshot.rules.rules
    named = sorted({model for rule in rules for model in rule.models if model != ANYTHING})
    if not named:
        return []
    notes: list[str] = []
    for entry in config.passthrough:
        place = f'passthrough "{entry.path_prefix}"'
        if not entry.names_models:
            notes.append(
                f"{place} has names_models: false: its bodies are not read, so rules on models do not hold there"
            )
        elif entry.upgrade:
            notes.append(
                f"{place} upgrades: what follows is not read, so only who may use every model, or names one in the "
                "path or query, gets in, and may name another one inside"
            )
    return notes
