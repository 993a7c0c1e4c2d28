"""`wissel tier label` as an operator runs it, against a server in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiers.world import write

pytestmark = pytest.mark.slow

SERVER = Path(__file__).with_name("judge_server.py")


@pytest.fixture
def server() -> Iterator[str]:
    with subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.kill()


def command(url: str, home: Path, *more: str) -> list[str]:
    models = [word for role in ("strong", "weak", "judge") for word in (f"--{role}", f"{role}@{url}")]
    files = ["--prompts", str(home / "prompts.jsonl"), "--out", str(home / "labels.jsonl")]
    return [sys.executable, "-m", "wissel", "tier", "label", *files, *models, "--key-env", "NO_SUCH_KEY", *more]


def labels(home: Path) -> list[dict]:
    return [json.loads(line) for line in (home / "labels.jsonl").read_text().splitlines()]


def test_a_run_that_was_killed_goes_on_and_each_prompt_is_labelled_once(server, tmp_path):
    prompts = [f"{'hard' if number % 2 else 'easy'} question {number}" for number in range(24)]
    write(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    first = subprocess.Popen(command(server, tmp_path, "--rate", "40"), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "labels.jsonl").exists() or len(labels(tmp_path)) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.kill()
    first.communicate()
    early = len((tmp_path / "labels.jsonl").read_text().splitlines())
    again = subprocess.run(
        command(server, tmp_path, "--rate", "1000", "--json", "--price", "judge=1.0/2.0"),
        capture_output=True,
        text=True,
        check=True,
    )
    tally = json.loads(again.stdout)
    found = {row["prompt"]: row["strong"] for row in labels(tmp_path)}

    assert 4 <= early < len(prompts)
    assert len(labels(tmp_path)) == len(prompts)
    assert found == {prompt: 1.0 if "hard" in prompt else 0.5 for prompt in prompts}
    assert tally["skipped"] + tally["labelled"] == len(prompts)
    # Two verdicts for each, at 1,000 tokens in and 500 out.
    assert tally["usd"] == pytest.approx(2 * tally["labelled"] * 0.002)
    assert f"{tally['labelled']} of {tally['labelled']}" in again.stderr
