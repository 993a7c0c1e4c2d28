"""Running wissel, and the demo around it."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer

from wissel.cli._output import ConfigOption, JsonOption, WorkersOption, configure_logs, honest_exits
from wissel.runtime.folders import user_folder


def serve(
    config: ConfigOption,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of what outlives a restart: `redis: embedded`, and where rollouts stood."),
    ] = None,
    grace: Annotated[float, typer.Option(help="Seconds that requests in flight are given at the end.", min=0)] = 30.0,
    log_format: Annotated[str, typer.Option(help="console or json.")] = "json",
    workers: WorkersOption = 1,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
    admin_socket: Annotated[Path | None, typer.Option(hidden=True)] = None,
    redis: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve Envoy: answer its ext_proc streams until SIGTERM."""
    configure_logs(log_format)
    with honest_exits():
        if workers > 1:
            from wissel.serving.supervisor import supervise

            home = data or data_directory()
            asyncio.run(supervise(config, workers=workers, data=home, grace=grace, log_format=log_format))
            return
        import uvloop

        from wissel.serving.app import WorkerTerms
        from wissel.serving.app import serve as run

        role = None
        if worker is not None and admin_socket is not None:
            structlog.contextvars.bind_contextvars(worker=worker)
            role = WorkerTerms(worker, admin_socket, redis)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(config, data=data or data_directory(), grace=grace, worker=role))


def demo(
    once: Annotated[bool, typer.Option("--once", help="Tell the story and stop.")] = False,
    as_json: JsonOption = False,
    browser: Annotated[bool, typer.Option(help="Open the console, where there is a screen.")] = True,
    real_model: Annotated[
        bool, typer.Option("--real-model", help="Let a real small model be the one that is added; see `make model`.")
    ] = False,
) -> None:
    """Run everything on this machine: a real Envoy, wissel and simulated models; watch requests find their model."""
    from wissel.demo.story import tell

    configure_logs("console", level="WARNING")
    with honest_exits():
        try:
            shown = browser and has_screen() and not (once or as_json)
            told_well = asyncio.run(tell(once=once, as_json=as_json, browser=shown, real_model=real_model))
        except KeyboardInterrupt:
            # The visitor has seen enough; everything that was started is stopped by now.
            return
    raise typer.Exit(0 if told_well else 1)


def has_screen() -> bool:
    """Whether a browser would open a window; without one it might take over this terminal."""
    return sys.platform in {"darwin", "win32"} or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def data_directory() -> Path:
    """Where state is kept between runs: `WISSEL_DATA`, else the user's state directory."""
    if found := os.environ.get("WISSEL_DATA"):
        return Path(found)
    return user_folder("XDG_STATE_HOME", ".local/state", instead="WISSEL_DATA or --data")
