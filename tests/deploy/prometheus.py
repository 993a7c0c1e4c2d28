"""The rules that are shipped, and what it takes to try them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from real import need
from wissel.errors import WorldError

CONFIG = Path(__file__).parents[2] / "config"
RULES = CONFIG / "prometheus" / "alerts.yml"


def prometheus_binary() -> str:
    found = shutil.which("prometheus")
    if not found or not shutil.which("promtool"):
        raise WorldError("no prometheus")
    return found


needs_prometheus = need(prometheus_binary, "prometheus")


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]
