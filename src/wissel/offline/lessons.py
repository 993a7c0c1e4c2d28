"""What live traffic taught a tier, written as rows for training."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from wissel.config import Config
from wissel.config.shapes import suggestion
from wissel.errors import ConfigError
from wissel.offline.store import opened_store
from wissel.store.base import AuditEntry
from wissel.tiers.live import By, Summary, labels_of, rows_of, summarize


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what it says."""

    rows: int
    with_prompts: int
    of_other_ends: int
    """Requests left out because the tier's ends were others then."""
    summary: Summary


async def export_lessons(
    config: Config, tier: str, out: Path, *, by: By, since: float, who: str, data: Path
) -> Exported:
    """Write what live traffic taught `tier` since a time (Unix) as rows for training; the audit trail names `who` did.

    Writes nothing where there are no labels of both ends. Raises ConfigError and StoreError.
    """
    section = next((each for each in config.tiers if each.name == tier), None)
    if section is None:
        raise ConfigError([f'no tier is named "{tier}"{suggestion(tier, [each.name for each in config.tiers])}'])
    async with opened_store(config, data) as store:
        kept = [each for each in await store.lessons.read(tier) if each.at >= since]
        lessons = [each for each in kept if each.lesson.ends == (section.strong, section.weak)]
        labels = labels_of(lessons, by)
        summary = summarize(lessons, labels)
        if not summary.strong.labelled or not summary.weak.labelled:
            return Exported(0, 0, len(kept) - len(lessons), summary)
        rows = rows_of(labels)
        with_prompts = sum("prompt" in row for row in rows)
        # Who takes prompts away is known before they are gone.
        told = {"rows": len(rows), "with_prompts": with_prompts, "by": by}
        await store.audit.add(AuditEntry(f"tier/{tier}", "exported", who, f"{len(rows)} rows for training", told))
    _write_privately(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return Exported(len(rows), with_prompts, len(kept) - len(lessons), summary)


def _write_privately(path: Path, text: str) -> None:
    """A file that only its owner reads."""
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError([f'--out: cannot write "{path}": {error.strerror}']) from error
