"""What the operators' commands do with the store, and with rules before they serve.

A command reaches the same Redis as the replicas do, by the configuration. An
embedded server is joined while it runs, and started for the moment where not.
"""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wissel.admin.api import call_headers, find_principal
from wissel.admin.views import View, decision_view
from wissel.app import dry_router
from wissel.config import Config, redis_url
from wissel.config.shapes import suggestion
from wissel.core.access import Principal
from wissel.core.decision import Denied
from wissel.errors import ConfigError
from wissel.extproc.dry_run import dry_run
from wissel.quality.live import By, Summary, labels_of, rows_of, summarize
from wissel.router import Router
from wissel.store.audit import Audit
from wissel.store.base import Entry
from wissel.store.connection import Connection
from wissel.store.embedded import joined_redis
from wissel.store.keys import Keys
from wissel.store.lessons import Lessons
from wissel.store.managed_keys import ManagedKeys


@dataclass(frozen=True, slots=True)
class Store:
    """The store as commands use it."""

    keys: ManagedKeys
    audit: Audit
    lessons: Lessons


@asynccontextmanager
async def opened_store(config: Config, data: Path) -> AsyncGenerator[Store]:
    """The configuration's store; `data` is where an embedded one lives. Raises ConfigError and StoreError."""
    url = redis_url(config)
    if url is None:
        raise ConfigError(["redis: missing; managed keys, the audit trail and what tiers learn are kept there"])
    if url == "embedded":
        async with joined_redis(data) as joined, _connected(joined, config.namespace) as store:
            yield store
        return
    async with _connected(url, config.namespace) as store:
        yield store


@asynccontextmanager
async def _connected(url: str, namespace: str) -> AsyncGenerator[Store]:
    connection = Connection(url)
    names = Keys(namespace)
    try:
        yield Store(ManagedKeys(connection, names), Audit(connection, names), Lessons(connection, names))
    finally:
        await connection.close()


# Lessons.


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
        await store.audit.add(Entry(f"tier/{tier}", "exported", who, f"{len(rows)} rows for training", told))
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


# Cases.


class Expected(BaseModel):
    """What should become of a case, in the words of `wissel explain --json`; what is left out may be anything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: int | None = None
    """What the caller sees; 200 if the request goes on."""
    code: str | None = None
    """Of the refusal."""
    model: str | None = None
    route: str | None = None
    target: str | None = None
    rules: list[str] | None = None
    """Those that decided."""


class Case(BaseModel):
    """Who asks for what, and what should become of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    who: str | None = Field(default=None, alias="as")
    """The id of a key; a caller without a key if left out."""
    groups: frozenset[str] | None = None
    """Of a caller that has no key in the configuration, such as the subject of a token."""
    model: str = "auto"
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = {}
    says: str = "hello"
    expect: Expected


@dataclass(frozen=True, slots=True)
class Verdict:
    """A case and what became of it."""

    case: Case
    view: View
    wrong: tuple[str, ...]
    """What is not as expected; empty if all is."""


def read_cases(path: Path) -> list[Case]:
    """The cases in the file. Raises ConfigError with all that is wrong with them."""
    try:
        return _CASES.validate_python(yaml.safe_load(path.read_bytes()))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    except ValidationError as error:
        places = ((".".join(str(part) for part in each["loc"]), each["msg"]) for each in error.errors())
        raise ConfigError([f"{path}: {place}: {message}" for place, message in places]) from error


_CASES: TypeAdapter[list[Case]] = TypeAdapter(Annotated[list[Case], Field(min_length=1)])


async def check_cases(config: Path, cases: Path) -> list[Verdict]:
    """What becomes of every case. Raises ConfigError."""
    asked = read_cases(cases)
    async with dry_router(config) as router:
        return [await _check(router, case) for case in asked]


async def _check(router: Router, case: Case) -> Verdict:
    body = {"model": case.model, "messages": [{"role": "user", "content": case.says}]}
    headers = call_headers(case.path, case.headers)
    decision = await dry_run(
        router, headers, json.dumps(body).encode(), request_id="dry-run", caller=_caller(router, case)
    )
    view = decision_view(decision)
    if isinstance(decision, Denied):
        view = {**view, "code": decision.code}
    wrong = tuple(
        f"{name} is {_shown(view.get(name))}, not {_shown(value)}"
        for name, value in case.expect.model_dump(exclude_unset=True).items()
        if view.get(name) != value
    )
    return Verdict(case, view, wrong)


def _caller(router: Router, case: Case) -> Principal | None:
    if case.who is None:
        return None
    if case.groups is not None:
        return Principal(case.who, case.groups)
    found = find_principal(router, case.who)
    if found is None:
        raise ConfigError([f'as: no key has the id "{case.who}"; give its groups to decide for it all the same'])
    return found


def _shown(value: object) -> str:
    return "none" if value is None else f'"{value}"' if isinstance(value, str) else str(value)
