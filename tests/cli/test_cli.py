"""The commands as an operator types them: what they print, and how they exit."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from real import needs_encoder, needs_envoy, needs_redis
from wissel import __version__
from wissel.classifiers.build import Classifiers
from wissel.cli import app
from wissel.config import compile_rollouts, load
from wissel.core.intent import Scores
from wissel.core.rollouts.rollout import Move, begin
from wissel.core.rollouts.rollout import promote as promote_now
from wissel.demo.parts import free_port
from wissel.store.connection import RedisConnection
from wissel.store.keys import Keys
from wissel.store.records import Records

MINIMAL = """
models:
  - {name: small, cluster: a}
  - {name: large, cluster: b}
splits:
  - {name: ab, variants: [{model: small, weight: 50}, {model: large, weight: 50}]}
"""


def run(*words: str, given: str | None = None):
    return CliRunner().invoke(app, list(words), input=given)


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "wissel.yaml"
    path.write_text(MINIMAL)
    return path


def test_the_version_is_printed():
    assert run("--version").output == f"wissel {__version__}\n"


def test_a_good_file_is_ok(config):
    result = run("check", "--config", str(config))

    assert (result.exit_code, ": ok, revision " in result.output) == (0, True)


def test_every_problem_is_told_with_its_place(config):
    config.write_text(MINIMAL.replace("model: large", "model: lrage").replace("cluster: a", "cluser: a"))
    result = run("check", "--config", str(config))

    assert result.exit_code == 2
    assert f"{config}:3:19: models[0]" in result.stderr
    assert 'did you mean "cluster"?' in result.stderr
    assert 'no model is named "lrage"; did you mean "large"?' in result.stderr


def test_a_missing_file_is_told(tmp_path):
    result = run("check", "--config", str(tmp_path / "none.yaml"))

    assert (result.exit_code, "none.yaml" in result.stderr) == (2, True)


def test_problems_can_be_had_as_json(config):
    config.write_text("models: []")
    result = run("check", "--config", str(config), "--json")

    assert result.exit_code == 2
    assert json.loads(result.stdout)["ok"] is False


def test_the_schema_is_json():
    assert json.loads(run("schema").stdout)["$schema"].startswith("https://json-schema.org")


def test_a_named_target_is_explained_without_any_model_weights(config):
    result = run("explain", "-c", str(config), "--model", "ab", "-H", "x-session-id: s", "--json", "hello")
    told = json.loads(result.stdout)

    assert result.exit_code == 0
    assert (told["split"], told["key"]) == ("ab", {"source": "header:x-session-id", "value": "s"})


ROUTED = f"""{MINIMAL}
entrypoints: [auto]
routes: [{{name: a, target: small, description: x}}, {{name: b, target: large, description: x}}]
intent: {{fallback: b}}
"""


class Undecided:
    """A classifier that finds two routes equally good, and is as good as certain."""

    threshold = 0.2

    def recall(self, conversation):
        return Scores({"b": 0.5, "a": 0.5}, self.threshold, "embedding", 0.999)


def test_a_tie_is_told_with_who_answered_and_never_as_certain(config, monkeypatch):
    async def build(*_):
        return Undecided()

    monkeypatch.setattr(Classifiers, "build", build)
    config.write_text(ROUTED)
    printed = " ".join(run("explain", "-c", str(config), "hello").stdout.split())

    assert "match by embedding, score 0.5 against threshold 0.2, level with b, 99% sure" in printed


def test_a_best_score_below_the_threshold_is_not_taken_for_the_fallbacks(config, monkeypatch):
    async def build(*_):
        return Undecided()

    monkeypatch.setattr(Undecided, "threshold", 0.6)
    monkeypatch.setattr(Classifiers, "build", build)
    config.write_text(ROUTED)
    printed = " ".join(run("explain", "-c", str(config), "hello").stdout.split())

    assert "other by embedding, the best score 0.5 is below threshold 0.6, 99% sure" in printed


def test_a_refusal_is_explained_and_exits_with_one(config):
    result = run("explain", "-c", str(config), "--model", "none", "hello")

    assert result.exit_code == 1
    assert "404 model_not_found" in " ".join(result.stdout.split())


def test_a_whole_body_may_come_from_standard_input(config):
    body = '{"model": "small", "input": "hi"}'
    result = run("explain", "-c", str(config), "--path", "/v1/embeddings", "--body", "-", given=body)

    assert (result.exit_code, "no_able_model" in result.stdout) == (1, True)


@pytest.mark.parametrize("words", [["hello", "--body", "-"], [], ["hello", "-H", "nocolon"]])
def test_bad_usage_exits_with_two(config, words):
    assert run("explain", "-c", str(config), *words).exit_code == 2


def test_a_caller_that_no_key_has_is_told(config):
    result = run("explain", "-c", str(config), "--as", "eve", "--model", "small", "hello")

    assert (result.exit_code, 'no key has the id "eve"' in result.stderr) == (2, True)


def test_a_bootstrap_needs_the_envoy_section(config):
    result = run("envoy", "-c", str(config))

    assert (result.exit_code, "envoy" in result.stderr) == (2, True)


def test_a_bootstrap_is_yaml_on_standard_output():
    result = run("envoy", "-c", "config/example.yaml")

    assert (result.exit_code, "cluster_header: x-wissel-cluster" in result.stdout) == (0, True)


def test_help_imports_no_heavy_part():
    heavy = "('torch', 'onnxruntime', 'aiohttp')"
    code = f"import sys; from wissel.cli import app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())

    assert done.stdout == "[]\n"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.slow
def test_serving_ends_with_zero_on_sigterm(config, tmp_path):
    admin = f"127.0.0.1:{free_port()}"
    config.write_text(f"{MINIMAL}\nlisten: {{ext_proc: 'unix:{tmp_path}/w.sock', admin: '{admin}'}}\n")
    command = [sys.executable, "-m", "wissel", "serve", "-c", str(config), "--grace", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as serving:
        ready = wait_until_ready(f"http://{admin}/readyz")
        serving.send_signal(signal.SIGTERM)
        _, logs = serving.communicate(timeout=20)

    assert ready["status"] == "ready"
    assert serving.returncode == 0, logs
    assert [json.loads(line)["event"] for line in logs.splitlines()] == ["ready", "draining", "stopped"]
    assert not (tmp_path / "w.sock").exists()


def wait_until_ready(url: str) -> dict[str, str]:
    for _ in range(1200):
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.05)
    raise AssertionError("not ready within 60 s")


@pytest.mark.slow
def test_a_taken_port_is_a_clear_message(config):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        config.write_text(f"{MINIMAL}\nlisten: {{ext_proc: '127.0.0.1:{port}', admin: '127.0.0.1:{free_port()}'}}\n")
        done = subprocess.run(
            [sys.executable, "-m", "wissel", "serve", "-c", str(config)],
            capture_output=True, text=True, check=False, env=environment(), timeout=30,
        )  # fmt: skip

    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@needs_envoy
@needs_encoder
@needs_redis
def test_the_demo_tells_its_story_and_every_request_is_served_as_decided():
    done = subprocess.run(
        [sys.executable, "-m", "wissel", "demo", "--once", "--json"],
        capture_output=True, text=True, check=False, env=environment(), timeout=110,
    )  # fmt: skip
    told = json.loads(done.stdout)
    served = [each for each in told["decisions"] if each["status"] == 200]

    assert (done.returncode, told["failures"]) == (0, 0), done.stderr
    assert told["added"]["served"]
    assert told["lost"]["failures"] == 0
    assert set(told["lost"]["served"]) >= {"llama-3.1-8b", "gpt-4o"}
    assert told["requests"] == len(told["decisions"])
    assert len({each["route"] for each in served if each["route"]}) >= 5
    assert len({each["model"] for each in served}) >= 4
    assert {each["name"]: each["phase"] for each in told["rollouts"]} == {
        "chat-next": "healthy",
        "chat-cheap": "degraded",
    }
    assert all(each["canary_requests"] < 300 for each in told["rollouts"] if each["phase"] == "degraded")


# Rollouts, where no wissel serves; where one does: test_delivery.

ROLLOUT = """
namespace: test
models:
  - {name: small, cluster: a}
  - {name: large, cluster: b}
rollouts:
  - {name: next, stable: small, canary: large, steps: [{set_weight: 10}, {pause: {}}]}
"""


def promoted(url: str, config: Path) -> None:
    """As a controller leaves it."""

    async def promote() -> None:
        connection = RedisConnection(url)
        (delivery,) = compile_rollouts(load(config))
        move = promote_now(begin(delivery.spec, 0.0).rollout, delivery.spec, 0.0, by="ada", full=True)
        assert isinstance(move, Move)
        await Records(connection, Keys("test")).put(move.rollout, version=0)
        await connection.close()

    asyncio.run(promote())


def test_a_promoted_rollout_is_a_note_to_edit_stable(server, config):
    config.write_text(f"{ROLLOUT}\nredis: {server.url}\n")
    before = run("check", "-c", str(config))
    promoted(server.url, config)
    after, offline = run("check", "-c", str(config)), run("check", "-c", str(config), "--offline")

    assert (before.exit_code, after.exit_code, offline.exit_code) == (0, 0, 0)
    assert 'note: rollout "next" is promoted: make "large" its stable model' in after.output
    assert "note" not in before.output + offline.output


def test_a_redis_that_is_away_is_a_note_and_no_error(config):
    config.write_text(f"{ROLLOUT}\nredis: redis://127.0.0.1:1/0\n")
    told = run("check", "-c", str(config), "--json")

    assert told.exit_code == 0
    assert "not known" in json.loads(told.stdout)["notes"][0]


ANALYSED = ROLLOUT.replace(
    "{pause: {}}]}",
    "{pause: {duration: 1m}}], analysis: {metrics: [{name: error_rate, allowed_increase: 0.01}, "
    "{name: ttft_p95, max: 2s}, {name: mine, query: up, max: 2}], prometheus: 'http://127.0.0.1:1'}}",
)


def simulated(config: Path, *words: str):
    config.write_text(f"{ANALYSED}\nredis: redis://127.0.0.1:1/0\n")
    return run("rollout", "simulate", "-c", str(config), "--rollout", "next", "--runs", "20", *words)


@pytest.mark.parametrize(("errors", "end", "worse"), [(0.02, "promoted", []), (0.3, "rolled_back", ["error_rate"])])
def test_a_simulation_predicts_the_verdict(config, errors, end, worse):
    told = json.loads(simulated(config, "--canary", f"error_rate={errors}", "--rps", "50", "--json").stdout)

    assert told["shares"][end] >= 0.9
    assert (told["worse_in"], told["left_out"]) == (worse, ["mine max 2"])
    assert told["wrong"] <= 0.1


def test_a_simulation_is_told_in_words(config):
    done = simulated(config, "--rps", "50")

    assert (done.exit_code, "wrong verdicts, as this canary is no worse" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    "words", [["--canary", "errors=1"], ["--canary", "error_rate=2"], ["--stable", "error_rate=x"]]
)
def test_a_behaviour_that_cannot_be_is_bad_usage(config, words):
    assert simulated(config, *words).exit_code == 2


def test_a_wissel_that_is_away_is_told_with_its_address():
    done = run("rollout", "list", "--admin", "127.0.0.1:1")

    assert (done.exit_code, 'no wissel answers at "http://127.0.0.1:1"' in done.stderr) == (1, True)


def test_an_address_of_another_kind_is_bad_usage():
    assert run("rollout", "list", "--admin", "file:///etc/passwd").exit_code == 2
