"""The commands about access: keys, the audit trail, and rules that are tested before they serve."""

import asyncio
import os
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from time import time
from typing import Annotated, Any

import typer
from rich.table import Table

from wissel.cli._output import ConfigOption, JsonOption, honest_exits, out, print_json, printable
from wissel.cli.serve import data_directory
from wissel.errors import ConfigError

keys_app = typer.Typer(name="keys", help="Make, list, rotate and revoke API keys while serving.", no_args_is_help=True)
access_app = typer.Typer(name="access", help="Test access rules.", no_args_is_help=True)

DataOption = Annotated[Path | None, typer.Option(help="Where `redis: embedded` keeps its data.")]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def operator() -> str:
    """Who the audit trail says it was."""
    return os.environ.get("WISSEL_OPERATOR") or getuser()


def _seconds(written: str) -> float:
    number, unit = written[:-1], written[-1:]
    if not number.isdecimal() or unit not in _UNITS:
        raise typer.BadParameter(f'"{written}" should be a duration such as 90d, 12h or 30m')
    return int(number) * _UNITS[unit]


@keys_app.command("create")
def keys_create(
    config: ConfigOption,
    principal: Annotated[str, typer.Argument(help="Whom the key stands for; what rules and limits name.")],
    group: Annotated[list[str] | None, typer.Option(help="A group of the caller; may be repeated.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends, such as 90d; never if not given.")] = None,
    note: Annotated[list[str] | None, typer.Option(help="name=value, kept with the key; may be repeated.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print its secret, once and never again."""
    from wissel.config import load
    from wissel.core.access import Principal
    from wissel.offline.store import opened_store

    until = None if expires is None else time() + _seconds(expires)
    notes = dict(_note(each) for each in note or [])

    async def create() -> tuple[str, str]:
        async with opened_store(load(config), data or data_directory()) as store:
            who = Principal(principal, frozenset(group or []))
            record, secret = await store.keys.create(who, by=operator(), now=time(), expires=until, metadata=notes)
            return record.key.id, secret

    with honest_exits():
        key_id, secret = asyncio.run(create())
    _show_secret(key_id, secret, as_json=as_json)


def _note(written: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f'"{written}" should be name=value')
    return name, value


def _show_secret(key_id: str, secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": key_id, "secret": secret})
        return
    typer.echo(secret)
    typer.echo(f'the key "{key_id}" is taken everywhere within 2 seconds; its secret is not shown again', err=True)


@keys_app.command("list")
def keys_list(config: ConfigOption, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show every managed key; secrets are not known here."""
    from wissel.config import load
    from wissel.offline.store import opened_store
    from wissel.store.managed_keys import KeyRecord

    async def read() -> list[KeyRecord]:
        async with opened_store(load(config), data or data_directory()) as store:
            return await store.keys.all()

    with honest_exits():
        records = asyncio.run(read())
    rows: list[dict[str, Any]] = [
        {
            "id": each.key.id,
            "principal": each.key.principal.id,
            "groups": sorted(each.key.principal.groups),
            "created": _time(each.created),
            "expires": _time(each.key.expires),
            "metadata": dict(each.metadata),
        }
        for each in records
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("id", "principal", "groups", "created", "expires", "notes", box=None, pad_edge=False)
    for row in rows:
        notes = ", ".join(f"{name}={value}" for name, value in row["metadata"].items())
        groups = ", ".join(row["groups"])
        table.add_row(row["id"], row["principal"], groups, row["created"], row["expires"] or "never", notes)
    out.print(table, markup=False, highlight=False)


@keys_app.command("rotate")
def keys_rotate(
    config: ConfigOption,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's public id.")],
    grace: Annotated[str, typer.Option(help="How long the old secret is still taken.")] = "1h",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret and print it; the old one ends after the grace."""
    from wissel.config import load
    from wissel.offline.store import opened_store

    seconds = _seconds(grace)

    async def rotate() -> str | None:
        async with opened_store(load(config), data or data_directory()) as store:
            found = await store.keys.rotate(key_id, by=operator(), now=time(), grace=seconds)
            return found[1] if found else None

    with honest_exits():
        secret = asyncio.run(rotate())
        if secret is None:
            raise ConfigError([f'no managed key has the id "{key_id}"'])
    _show_secret(key_id, secret, as_json=as_json)


@keys_app.command("revoke")
def keys_revoke(
    config: ConfigOption,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's public id.")],
    reason: Annotated[str, typer.Option(help="For the audit trail.")] = "",
    data: DataOption = None,
) -> None:
    """Take a key away; no replica accepts it two seconds later."""
    from wissel.config import load
    from wissel.offline.store import opened_store

    async def revoke() -> bool:
        async with opened_store(load(config), data or data_directory()) as store:
            return await store.keys.revoke(key_id, by=operator(), reason=reason)

    with honest_exits():
        if not asyncio.run(revoke()):
            raise ConfigError([f'no managed key has the id "{key_id}"'])
    typer.echo(f'"{key_id}" is revoked')


def _time(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def audit(
    config: ConfigOption,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many of the latest lines.")] = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who changed what and who was refused, when and why."""
    from wissel.config import load
    from wissel.offline.store import opened_store
    from wissel.store.base import AuditEntry

    def show(entry: AuditEntry) -> None:
        if as_json:
            line = {"at": _time(entry.at), "subject": entry.subject, "kind": entry.kind, "by": entry.by}
            print_json({**line, "reason": entry.reason, "detail": entry.detail}, indent=None)
        else:
            who = entry.by or "nobody"
            typer.echo(printable(f"{_time(entry.at)}  {entry.subject}  {entry.kind}  by {who}: {entry.reason}"))

    async def read() -> None:
        async with opened_store(load(config), data or data_directory()) as store:
            latest = await store.audit.latest(limit)
            for entry in reversed(latest):
                show(entry)
            if follow:
                async for entry in store.audit.follow(latest[0].id if latest else "$"):
                    show(entry)

    with honest_exits():
        try:
            asyncio.run(read())
        except KeyboardInterrupt:
            return


@access_app.command("test")
def access_test(
    config: ConfigOption,
    cases: Annotated[Path, typer.Option(help="A YAML list of {as, model, path, headers, says, expect}.")],
    as_json: JsonOption = False,
) -> None:
    """Decide every case of a table and compare; exit 0 if all are as expected, else 1."""
    from wissel.offline.cases import CaseVerdict, check_cases

    with honest_exits():
        verdicts = asyncio.run(check_cases(config, cases))

    def line(verdict: CaseVerdict) -> dict[str, Any]:
        case = verdict.case
        return {"as": case.who, "model": case.model, "path": case.path, "ok": not verdict.wrong, "wrong": verdict.wrong}

    if as_json:
        print_json([line(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            row = line(verdict)
            state = "ok   " if row["ok"] else "WRONG"
            typer.echo(f"{state} {row['as'] or 'nobody'} asks {row['path']} for {row['model']}")
            for each in verdict.wrong:
                typer.echo(f"        {each}")
    raise typer.Exit(0 if all(not verdict.wrong for verdict in verdicts) else 1)
