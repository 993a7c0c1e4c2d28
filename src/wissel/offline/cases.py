"""Cases that access rules are tried with before they serve: who asks for what, and what should become of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wissel.admin.api import call_headers, find_principal
from wissel.admin.views import View, decision_view
from wissel.core.access import Principal
from wissel.core.decision import Denied
from wissel.errors import ConfigError
from wissel.extproc.dry_run import dry_run
from wissel.offline.dry import dry_router
from wissel.router import Router


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
class CaseVerdict:
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


async def check_cases(config: Path, cases: Path) -> list[CaseVerdict]:
    """What becomes of every case. Raises ConfigError."""
    asked = read_cases(cases)
    async with dry_router(config) as router:
        return [await _check(router, case) for case in asked]


async def _check(router: Router, case: Case) -> CaseVerdict:
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
    return CaseVerdict(case, view, wrong)


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
