"""The documents as text: their pages, and what they put between backticks and into blocks of code."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [*PAGES, *sorted((ROOT / ".github").glob("*.md")), *sorted((ROOT / "envoy").rglob("*.md"))]
README = PAGES[0].read_text()

NAMED: dict[str, list[str]] = yaml.safe_load((ROOT / "tests/deploy/named.yaml").read_text())
"""What the README named while it was the only page: commands, keys of the configuration, others."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def spans(text: str) -> list[str]:
    """What stands between backticks in a text; a table's bars are written with a backslash."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [each.replace("\\|", "|") for each in re.findall(r"`([^`\n]+)`", prose)]


def lines(text: str) -> list[str]:
    """What stands in a shell's blocks, a command a line."""
    script = "\n".join(blocks("sh", text)).replace("\\\n", " ")
    return [bare for line in script.splitlines() if (bare := line.partition("  #")[0].strip())]


def code(pages: list[Path]) -> list[str]:
    """All of both, page by page."""
    return [each for page in pages for each in (*lines(page.read_text()), *spans(page.read_text()))]


FIRST_ROUTE, FIRST_CANARY = blocks("yaml", README)


def with_canary() -> str:
    """The README's first route, once its first canary is added as it says."""
    return f"{FIRST_ROUTE.replace('target: everyday}', 'target: chat}')}\n{FIRST_CANARY}"
