"""What all commands share: their common options, where they print, and how they end."""

import json
import sys
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console

from wissel.errors import ConfigError, WisselError

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkersOption = Annotated[
    int, typer.Option(help="Processes to serve with, each on a port, or a socket, of its own.", min=1)
]

out = Console()
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def honest_exits() -> Generator[None]:
    """Configuration mistakes are 2, a world that does not do its part is 1; neither is a traceback."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            err.print(printable(problem), markup=False)
        raise typer.Exit(2) from None
    except WisselError as error:
        err.print(printable(f"error: {error}"), markup=False)
        raise typer.Exit(1) from None


def print_json(value: Any, *, indent: int | None = 2) -> None:
    typer.echo(printable(json.dumps(value, indent=indent, ensure_ascii=False)))


def printable(text: str) -> str:
    """The text with what steers a terminal, or hides in one, written as JSON writes it; lines stay lines.

    Callers and models write into what is shown here, and an escape sequence could rewrite the lines above it.
    """
    return "".join(each if each == "\n" or not _steers(each) else json.dumps(each)[1:-1] for each in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def configure_logs(form: str, *, level: str = "INFO") -> None:
    from wissel.telemetry.tracing import add_trace_ids

    if form not in {"console", "json"}:
        raise typer.BadParameter(f'--log-format is "{form}"; it should be console or json')
    as_text = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_trace_ids,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            as_text if form == "console" else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
