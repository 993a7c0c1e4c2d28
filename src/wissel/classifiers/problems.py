"""What the `intent` section asks for and cannot have, as far as that shows without loading a model.

    intent section -> problems, each with its place

`wissel check` says them, and a configuration that has any is never served.
"""

from collections.abc import Iterator
from pathlib import Path

from wissel.classifiers.arch_prompt import PROFILES
from wissel.config import model
from wissel.encoders.cache import CARD_FILE


def problems(intent: model.Intent) -> list[str]:
    """Of the classifier and all its stages; empty if nothing is wrong."""
    found = [each for place, stage in intent.stages for each in _of_stage(stage, place, intent.deadline_ms)]
    if isinstance(intent.encoder, model.FolderEncoder) and not (Path(intent.encoder.path) / CARD_FILE).is_file():
        found.append(
            f'intent.encoder.path: "{intent.encoder.path}" has no {CARD_FILE}; should be a folder that '
            "`wissel encoder export` wrote"
        )
    return found


def _of_stage(section: model.Classifier, place: str, deadline_ms: int) -> Iterator[str]:
    if isinstance(section, model.ArchRouterClassifier):
        yield from _of_weights(section.model, f"{place}.model")
    if isinstance(section, model.RemoteClassifier) and section.timeout_ms and section.timeout_ms >= deadline_ms:
        yield (
            f"{place}.timeout_ms: should be less than intent.deadline_ms, {deadline_ms}, and is {section.timeout_ms}: "
            "no request waits for what comes later"
        )
    if isinstance(section, model.ArchRouterClassifier | model.RemoteClassifier) and section.budget is not None:
        least = PROFILES[section.profile].least_budget
        if section.budget < least:
            yield (
                f"{place}.budget: should be at least {least}, and is {section.budget}: the instructions of "
                f'"{section.profile}" take all of it, and nothing of the conversation would be shown'
            )


def _of_weights(source: str, place: str) -> Iterator[str]:
    path = Path(source)
    if path.exists():
        if not (path / "config.json").is_file():
            yield f'{place}: "{source}" should be a folder with a model\'s config.json, tokenizer and weights'
    elif path.is_absolute() or source.startswith((".", "~")):
        yield f'{place}: no model at "{source}"'
