"""No command says a secret, whatever odd characters it has and wherever it is kept."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import pytest

from sampling import IS_WHOLE

SECRET = "Zq77word"
"""A part that no message has a reason to hold."""

ODD = [
    "pa#{}",
    "pa/{}",
    "pa?{}",
    "{}pa:x",
    "pa@{}",
    "pa%{}",
    "{}[x",
    "pa {}",
    "pa\\{}",
    "%zz{}",
    "pa\n{}",
    "päß{}",
    "{}",
]

KEPT = [
    "models: [{name: m, cluster: c}]\nredis: {url: {env: SECRET_URL}}",
    """
models: [{name: m, cluster: c}]
admin: {token: {env: OTHER}, viewer_token: {env: SECRET}}
splits_salt: {env: SECRET}
""",
    """
models: [{name: m, cluster: c, credential: {env: SECRET}}]
admin: {token: {env: SECRET}}
entrypoints: [auto]
routes: [{name: r, description: talk, target: m}]
intent:
  fallback: r
  classifier: {type: remote, endpoints: ["http://127.0.0.1:1/v1"], model: x, api_key: {env: SECRET}}
""",
]
"""Every place where a secret is named."""

WRITTEN = [
    "redis: 'redis://:{}@127.0.0.1:1/0'",
    "redis: 'redis+sentinel://:{}@127.0.0.1:1/main'",
    "redis: 'redis://127.0.0.1:1/0?pass={}'",
    "telemetry: {{otlp: 'http://u:{}@127.0.0.1:1'}}",
    "intent: {{classifier: {{type: remote, endpoints: ['http://u:{}@127.0.0.1:1/v1'], model: x}}}}",
    "access: {{jwt: [{{issuer: 'http://i', audience: [a], jwks: 'http://u:{}@example.org/keys'}}]}}",
    "access: {{jwt: [{{issuer: 'http://i', audience: [a], jwks: 'https://u:{}@127.0.0.1:1/keys'}}]}}",
    "access: {{jwt: [{{issuer: 'http://i', audience: [a], jwks: 'http://u:{}@[example/keys'}}]}}",
]
"""What should not be written into the file, and is all the same."""

WRITTEN_FORMS = ["{}", "12/{}", "pa/{}", "pa?{}", "{}[x"]

COMMANDS = [
    ["check", "-c", "FILE"],
    ["check", "-c", "FILE", "--json"],
    ["check", "-c", "FILE", "--offline"],
    ["serve", "-c", "FILE", "--data", "DATA", "--grace", "0"],
    ["keys", "list", "-c", "FILE"],
    ["keys", "create", "ada", "-c", "FILE"],
    ["audit", "-c", "FILE"],
    ["explain", "-c", "FILE", "hello"],
    ["envoy", "-c", "FILE"],
    ["rollout", "list", "--admin", "http://127.0.0.1:1"],
]

RUN_ALL = """
import json, os, sys, traceback
from wissel.cli import app
import wissel.serving.app as serving

running = serving.running_app

async def serve(path, *, data, grace, worker=None):
    async with running(path, data=data, grace=grace, worker=worker):
        pass

serving.serve = serve
for case in json.load(sys.stdin):
    os.environ.update(case["environment"])
    for words in case["commands"]:
        for stream in (sys.stdout, sys.stderr):
            print("====", case["name"], words[0], flush=True, file=stream)
        try:
            app(words, standalone_mode=False)
        except SystemExit:
            pass
        except BaseException as error:
            if type(error).__name__ != "Exit":
                traceback.print_exc()
"""


EVERY = 1 if IS_WHOLE else 2
"""Of the combinations each second is a sample in which any two of form, place and command still meet."""


class Case(TypedDict):
    """One file and its environment, and all commands."""

    name: str
    environment: dict[str, str]
    commands: list[list[str]]


def case(home: Path, name: str, text: str, environment: dict[str, str], commands: Sequence[list[str]]) -> Case:
    home.mkdir()
    path = home / "wissel.yaml"
    path.write_text(f"{text}\nlisten: {{ext_proc: 'unix:{home}/w.sock', admin: '127.0.0.1:0'}}\n")
    places = {"FILE": str(path), "DATA": str(home)}
    return Case(name=name, environment=environment, commands=[[places.get(w, w) for w in each] for each in commands])


def said_by(cases: list[Case]) -> str:
    """All that every command prints, on both streams, in one process; `serve` starts everything and stops."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env={**os.environ, "OTHER": "another-token-of-somebody", "COLUMNS": "1000"},
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert said.count("==== ") == 2 * sum(len(each["commands"]) for each in cases)
    return said


def told(said: str) -> list[str]:
    """Where the secret is, and whatever nobody thought of, each with the case and command before it."""
    found, where = [], ""
    for line in said.splitlines():
        if line.startswith("==== "):
            where = line
        elif SECRET in line or "Traceback" in line:
            found.append(f"{where}: {line[:300]}")
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_command_says_a_secret_that_is_kept_elsewhere(tmp_path: Path):
    cases: list[Case] = []
    for number, form in enumerate(ODD):
        secret = form.format(SECRET)
        environment = {"SECRET": secret, "SECRET_URL": f"redis://:{secret}@127.0.0.1:1/0", "WISSEL_ADMIN_TOKEN": secret}
        # What is wrong with one of them may keep a command from the others.
        cases += [
            case(
                tmp_path / f"{len(cases)}-{at}",
                f"{form!r} {at}",
                text,
                environment,
                COMMANDS[(number + at) % EVERY :: EVERY],
            )
            for at, text in enumerate(KEPT)
        ]

    assert told(said_by(cases)) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_command_repeats_a_secret_that_is_written_where_none_belongs(tmp_path: Path):
    cases = [
        case(
            tmp_path / f"{at}-{number}",
            f"{at}-{number}",
            f"models: [{{name: m, cluster: c}}]\n{text}",
            {},
            COMMANDS[:5][(at + number) % EVERY :: EVERY],
        )
        for at, form in enumerate(WRITTEN_FORMS)
        for number, text in enumerate(each.format(form.format(SECRET)) for each in WRITTEN)
    ]

    assert told(said_by(cases)) == []
