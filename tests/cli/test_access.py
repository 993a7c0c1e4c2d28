"""The commands about access, as an operator types them."""

import json

import pytest
from typer.testing import CliRunner

from real import needs_redis
from wissel.cli import app

CONFIG = """\
redis: embedded
models: [{name: m, cluster: c}, {name: n, cluster: c}]
access:
  keys: [{id: team-a, sha256: b73740cc04966dd423fa456fc001fb602e9b1dbb4e2df7e4a320f00129e6f8cf, groups: [eng]}]
  rules: [{id: all, effect: permit, groups: [eng]}, {id: no-n, effect: forbid, models: [n]}]
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "wissel.yaml").write_text(CONFIG)
    return tmp_path


def run(home, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*words, "--config", str(home / "wissel.yaml")])
    return result.exit_code, result.stdout if result.exit_code != 2 else result.stderr


def cases(home, text: str) -> tuple[int, str]:
    (home / "cases.yaml").write_text(text)
    return run(home, "access", "test", "--cases", str(home / "cases.yaml"))


def test_a_table_that_is_as_expected_passes(home):
    text = """\
- {as: team-a, model: m, expect: {status: 200, model: m, rules: [all]}}
- {as: team-a, model: n, expect: {status: 403, code: forbidden, rules: [no-n]}}
- {as: "jwt:x", groups: [ops], model: m, expect: {status: 403, rules: []}}
- {model: m, expect: {status: 401}}
- {as: team-a, path: /v1/files, expect: {status: 404}}
"""
    code, said = cases(home, text)

    assert (code, said.count("ok   ")) == (0, 5)


def test_a_case_that_is_not_as_expected_is_told_and_fails(home):
    code, said = cases(home, "- {as: team-a, model: n, expect: {status: 200, model: n}}\n")

    assert code == 1
    assert "status is 403, not 200" in said
    assert 'model is none, not "n"' in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "at least 1 item"),
        ("- {as: team-a}", "0.expect: Field required"),
        ("- {model: m, expect: {statsu: 200}}", "0.expect.statsu"),
        ("- {as: nobody, model: m, expect: {status: 200}}", 'no key has the id "nobody"'),
        ("{", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_bad_usage(home, text, words):
    code, said = cases(home, text)

    assert code == 2
    assert words in said


@needs_redis
@pytest.mark.slow
def test_the_life_of_a_key(home):
    data = ["--data", str(home / "data")]
    _, made = run(
        home, "keys", "create", "team-b", "--group", "eng", "--expires", "90d", "--note", "o=ada", "--json", *data
    )
    made = json.loads(made)
    _, listed = run(home, "keys", "list", "--json", *data)
    _, rotated = run(home, "keys", "rotate", made["id"], "--json", *data)
    code, _ = run(home, "keys", "revoke", made["id"], "--reason", "leaked", *data)
    again, _ = run(home, "keys", "revoke", made["id"], *data)
    _, trail = run(home, "audit", "--json", *data)
    (shown,) = json.loads(listed)
    told = [json.loads(line) for line in trail.splitlines()]

    assert (shown["principal"], shown["groups"], shown["metadata"]) == ("team-b", ["eng"], {"o": "ada"})
    assert "secret" not in shown
    assert json.loads(rotated)["secret"] != made["secret"]
    assert (code, again) == (0, 2)
    assert [line["kind"] for line in told] == ["created", "rotated", "revoked"]
    assert told[2]["reason"] == "leaked"


def test_without_a_store_there_are_no_managed_keys(home):
    (home / "wissel.yaml").write_text("models: [{name: m, cluster: c}]")
    code, said = run(home, "keys", "list")

    assert code == 2
    assert "redis: missing" in said


def test_the_rule_that_decides_about_a_model_is_shown_without_a_prompt(home):
    refused, why = run(home, "explain", "--as", "team-a", "--model", "n")
    allowed, how = run(home, "explain", "--as", "team-a", "--model", "m")

    assert (refused, "no-n" in why, allowed, "all" in how) == (1, True, 0, True)


def test_a_question_about_nothing_is_bad_usage(home):
    assert run(home, "explain", "--as", "team-a")[0] == 2
    assert run(home, "explain", "--model", "m", "--body", str(home / "cases.yaml"))[0] == 2
