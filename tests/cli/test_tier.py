"""`wissel tier export` and what may be wrong with it, as an operator types it."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from real import needs_redis
from wissel.cli import app
from wissel.core.lesson import Lesson, Taught
from wissel.core.tier import Learning
from wissel.store.connection import RedisConnection
from wissel.store.keys import Keys
from wissel.store.lessons import LessonStore

CONFIG = """\
redis: {redis}
models: [{{name: large, cluster: a}}, {{name: small, cluster: b}}]
tiers:
  - {{name: thrifty, strong: large, weak: small, grader: {{type: length}}, threshold: 0.5, learn: {{explore: 0.1}}}}
"""


def run(home, *words: str, redis: str = "embedded", tier: str = "thrifty") -> tuple[int, str]:
    (home / "wissel.yaml").write_text(CONFIG.format(redis=redis))
    place = ["-c", str(home / "wissel.yaml"), "--data", str(home / "data"), "--out", str(home / "live.jsonl")]
    result = CliRunner().invoke(app, ["tier", "export", tier, *place, *words])
    return result.exit_code, result.output


def test_a_tier_that_is_none_is_told_with_the_nearest(tmp_path):
    assert run(tmp_path, tier="thriftt") == (2, 'no tier is named "thriftt"; did you mean "thrifty"?\n')


def test_a_redis_that_is_away_ends_with_one(tmp_path):
    code, said = run(tmp_path, redis="redis://127.0.0.1:1/0")

    assert (code, said.startswith("error: redis: ")) == (1, True)


@needs_redis
@pytest.mark.slow
def test_with_nothing_kept_yet_it_says_what_is_needed(tmp_path):
    code, said = run(tmp_path)

    assert code == 1
    assert "nothing is written: a coin chose the end of 0 requests, and both ends need a label by feedback" in said


@pytest.mark.slow
async def test_requests_of_other_ends_are_left_out_and_counted(redis, server, tmp_path):
    kept = LessonStore(redis, Keys("default"))
    kept.use({"thrifty": Learning(0.1)})
    for number in range(40):
        ends = ("large", "small") if number < 30 else ("large", "tiny")
        lesson = Lesson("thrifty", ends, "strong" if number % 2 else "weak", 0.5)
        kept.add(Taught(f"wr-{number}", lesson, ok=number % 3 > 0, model="m"))
    await kept.flush()
    code, said = await asyncio.to_thread(run, tmp_path, "--by", "outcome", "--json", redis=server.url)
    found = json.loads(said[: said.rindex("}") + 1])

    assert code == 0
    assert (found["rows"], found["with_prompts"], found["of_other_ends"]) == (30, 0, 10)
    assert len((tmp_path / "live.jsonl").read_text().splitlines()) == 30


@pytest.mark.slow
async def test_people_are_told_what_the_labels_say(redis: RedisConnection, server, tmp_path):
    kept = LessonStore(redis, Keys("default"))
    kept.use({"thrifty": Learning(0.1)})
    for number in range(400):
        lesson = Lesson("thrifty", ("large", "small"), "strong" if number % 2 else "weak", number / 400)
        kept.add(Taught(f"wr-{number}", lesson, ok=True, model="m"))
        kept.scored("thrifty", f"wr-{number}", 0.75 if number % 2 else 0.25)
    await kept.flush()
    code, said = await asyncio.to_thread(run, tmp_path, redis=server.url)

    assert code == 0
    assert "400 rows, 0 with a prompt" in said
    assert "the strong end is better by 0.500 (95 %: 0.500 to 0.500)" in said
    assert "the grader that served has APGR 0.5" in said
    assert "no grader learns from rows without a prompt" in said
