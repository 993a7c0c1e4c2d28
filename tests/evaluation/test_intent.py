"""`wissel eval` and `wissel lint-routes`, with an encoder that knows words only."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from wissel.classifiers import build, encoders
from wissel.cli import app
from wissel.config import parse
from wissel.core.snapshot import Route
from wissel.encoders.base import read_with
from wissel.encoders.knowledge import Knowledge
from wissel.encoders.logistic import Line
from wissel.errors import ConfigError
from wissel.evaluation import intent
from wissel.evaluation.intent import compare, evaluate, read_rows
from wissel.evaluation.intent_report import render
from wissel.evaluation.route_lint import lint
from word_encoder import WordEncoder

FILE = """
models: [{name: m, cluster: c}]
entrypoints: [auto]
routes:
  - {name: music, target: m, examples: [play some jazz, put on a song]}
  - {name: translate, target: m, examples: [say this in spanish, translate this text]}
  - {name: general, target: m}
intent: {fallback: general, threshold: 0.2}
"""


def row(text, route, *, before=(), **more):
    messages = [{"role": "user", "content": each} for each in (*before, text)]
    return json.dumps({"messages": messages, "route": route, **more})


LEAVES = "now put on a song and play some jazz, play some jazz or put on a song"
ROWS = (
    row("play some jazz", "music", conversation="1"),
    row("again", "music", before=["play some jazz"], conversation="1"),
    row("translate this text", "translate", conversation="2"),
    row(LEAVES, "translate", before=["translate this text"], conversation="2"),
    row("qqq zzz", "other"),
    row("xxx yyy", "general"),
)


class Words:
    """An encoder of words, of which nothing is known."""

    name, dimensions = "words", 64
    encode = staticmethod(WordEncoder())
    read = staticmethod(read_with(WordEncoder()))


@pytest.fixture(autouse=True)
def _words(monkeypatch):
    monkeypatch.setattr(encoders, "load", lambda *_, **__: (Words(), None))


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(ROWS))
    return path


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "wissel.yaml"
    path.write_text(FILE)
    return path


async def test_the_figures_of_a_run(data):
    view = (await evaluate(parse(FILE), data)).view()

    assert [each["right"] for each in view["rows"]] == [True, True, True, False, True, True]
    assert view["accuracy"] == view["turn_accuracy"] == pytest.approx(5 / 6)
    assert view["conversation_accuracy"] == 0.5
    assert view["other_auroc"] == 1
    assert view["baselines"] == {"majority": pytest.approx(1 / 3), "last_turn": pytest.approx(4 / 6)}
    assert view["latency_ms"].keys() == {"p50", "p90", "p99"}
    assert view["answered_by"] == {"embedding": 6}
    assert view["cpu_ms"] > 0
    assert view["routes"]["translate"]["recall"] == 0.5


async def test_a_confusion_is_told_with_the_phrases_that_clash(data):
    (confusion,) = (await evaluate(parse(FILE), data, clashes=True)).confusions

    assert (confusion.wanted, confusion.predicted, confusion.count) == ("translate", "music", 1)
    assert confusion.phrases[0][1] in {"play some jazz", "put on a song"}


async def test_any_of_several_routes_is_right(data):
    data.write_text(json.dumps({"messages": [{"role": "user", "content": "play"}], "routes": ["translate", "music"]}))

    assert (await evaluate(parse(FILE), data)).accuracy == 1


def test_a_dialogue_of_the_users_turns_alone_is_one_conversation(data):
    turns = ({"turn": 1, "user": "a", "route": "music"}, {"turn": 2, "user": "b", "route": "music"})
    data.write_text("\n".join(map(json.dumps, turns)))

    assert [[turn.text for turn in each.conversation.turns] for each in read_rows(data, ["music"])] == [
        ["a"],
        ["a", "b"],
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "data.jsonl:1: should be a JSON object with messages and route or routes"),
        ('{"messages": []}', 'data.jsonl:1: should be .*: "route" is missing'),
        ('{"text": "hi", "route": "music"}', 'data.jsonl:1: should be .*: "messages" is missing'),
        ('{"messages": [], "route": "music"}', '"messages" has nothing that a user says'),
        ('{"messages": [{"role": "user", "content": "hi"}], "routes": []}', '"routes" is empty'),
        ("[1]", "data.jsonl:1: should be .*: its values are of the wrong kind"),
        (row("x", "musci"), 'data.jsonl:1: the configuration has no route "musci"; did you mean "music"'),
        ("", "has no rows"),
    ],
)
def test_a_bad_row_is_named_with_its_line(data, line, said):
    data.write_text(line)

    with pytest.raises(ConfigError, match=said):
        read_rows(data, ["music"])


async def test_the_report_needs_nothing_else(data):
    data.write_text("\n".join((*ROWS, row("<script> put on", "translate"))))

    found = await evaluate(parse(FILE), data)
    page = render(found)

    assert page.count("<svg") == 3
    assert f"of {max(found.milliseconds):.1f} ms</text>" in page
    assert "&lt;script&gt;" in page
    assert not any(word in page for word in ("<script", "http", "nan"))


def test_the_command_prints_json_and_writes_the_report(config, data, tmp_path):
    words = ["eval", "-c", str(config), "--data", str(data), "--json", "--report", str(tmp_path / "r.html")]
    result = CliRunner().invoke(app, words)

    assert result.exit_code == 0
    assert json.loads(result.stdout)["count"] == len(ROWS)
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_warnings_are_printed_beside_the_json(config, data, monkeypatch):
    monkeypatch.setattr(build, "_load_static", Words)
    stages = "classifier: {type: cascade, stages: [{type: static}, {type: embedding}]}"
    config.write_text(FILE.replace("fallback: general", f"fallback: general, {stages}"))
    result = CliRunner().invoke(app, ["eval", "-c", str(config), "--data", str(data), "--json"])

    assert json.loads(result.stdout)["answered_by"] == {"embedding": len(ROWS)}
    assert "stage_left_out" in result.stderr


AWAY = "fallback: general, classifier: {type: remote, endpoints: ['http://127.0.0.1:1/v1'], model: arch}"
DEARER = "{type: remote, endpoints: ['http://127.0.0.1:1/v1'], model: arch}"


def test_a_run_without_any_answer_says_why_and_exits_with_one(config, data):
    config.write_text(FILE.replace("fallback: general", AWAY))
    result = CliRunner().invoke(app, ["eval", "-c", str(config), "--data", str(data)])

    assert result.exit_code == 1
    assert "Cannot connect to host" in " ".join(result.stdout.split())


async def test_what_kept_a_dearer_stage_from_answering_is_told(data):
    stages = f"classifier: {{type: cascade, margin: 1.0, stages: [{{type: embedding}}, {DEARER}]}}"
    found = await evaluate(parse(FILE.replace("fallback: general", f"fallback: general, {stages}")), data)

    assert (found.failed, found.view()["answered_by"]) == (0, {"embedding": len(ROWS)})
    assert next(iter(found.troubles)).startswith("stage 2 gave none: http://127.0.0.1:1/v1: Cannot connect")


async def test_rows_of_confusions_that_are_not_told_are_counted(data, monkeypatch):
    monkeypatch.setattr(intent, "PAIRS", 1)
    data.write_text("\n".join((*ROWS, row("play some jazz", "general"))))
    found = await evaluate(parse(FILE), data)

    assert (len(found.confusions), found.untold) == (1, 1)
    assert "and 1 more rows" in render(found)


def test_two_results_are_compared_row_by_row(config, data, tmp_path):
    result = CliRunner().invoke(app, ["eval", "-c", str(config), "--data", str(data), "--json"])
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(result.stdout)
    second.write_text(result.stdout.replace('"right": true', '"right": false'))

    found = compare(first, second)
    printed = CliRunner().invoke(app, ["eval", "--compare", str(first), str(second)]).stdout

    assert (found.only_first, found.only_second, found.p_value) == (5, 0, 2 / 2**5)
    assert "right in one only: 5 and 0; McNemar p = 0.0625: the difference may be chance" in printed


def test_results_of_different_rows_are_not_compared(config, data, tmp_path):
    for name, rows in (("a", ROWS), ("b", ROWS[:3])):
        data.write_text("\n".join(rows))
        result = CliRunner().invoke(app, ["eval", "-c", str(config), "--data", str(data), "--json"])
        (tmp_path / name).write_text(result.stdout)

    assert CliRunner().invoke(app, ["eval", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]).exit_code == 2


def test_routes_that_say_the_same_are_remarked():
    routes = [
        Route("a", "m", "fix errors in code"),
        Route("b", "m", "code errors fix in"),
        Route("c", "m", "book a trip"),
    ]
    (remark,) = lint(routes, WordEncoder())

    assert (remark.kind, remark.routes) == ("same phrase", ("a", "b"))


def test_a_shared_domain_is_no_remark():
    routes = [
        Route("fix", "m", "repairing broken programs", domain="code"),
        Route("write", "m", "making new functions", domain="code"),
    ]

    assert lint(routes, WordEncoder()) == []


def test_a_vague_description_is_remarked_unless_it_is_the_fallbacks():
    routes = [Route("misc", "m", "Any other questions"), Route("general", "m", "anything else")]
    remarks = lint(routes, WordEncoder(), fallback="general")

    assert [(each.kind, each.routes) for each in remarks] == [("vague", ("misc",))]


def test_a_domain_that_any_route_could_have_is_remarked():
    remarks = lint([Route("poems", "m", "verses that rhyme", domain="text", action="write poems")], WordEncoder())

    assert [(each.kind, each.what.split('"')[1]) for each in remarks] == [("loose word", "text")]


def test_an_action_that_is_nearer_to_another_route_is_remarked_in_any_language():
    routes = [
        Route("repairs", "m", "mending broken machines", action="mending"),
        Route("verses", "m", "poems and hilfe", domain="poems"),
        Route("sums", "m", "adding up numbers", action="hilfe"),
    ]
    remarks = lint(routes, WordEncoder())

    assert [(each.kind, each.routes) for each in remarks] == [("loose word", ("sums",))]


def test_traffic_in_a_script_that_no_example_has_is_remarked():
    known = Knowledge(("en", "ru"), *[Line(np.zeros(64, np.float32), 0.0)] * 2)
    routes = [Route("music", "m", examples=("play some jazz",)), Route("both", "m", examples=("a trip", "поездка"))]

    remarks = lint(routes, WordEncoder(), known=known, traffic=["play", "включи джаз", "एक गाना बजाओ"])

    assert [(each.kind, each.routes) for each in remarks] == [("one language", ("music",)), ("unknown language", ())]


def test_lint_exits_1_where_there_is_a_remark(config):
    assert CliRunner().invoke(app, ["lint-routes", "-c", str(config)]).exit_code == 0
    config.write_text(FILE.replace("put on a song", "translate this text"))

    result = CliRunner().invoke(app, ["lint-routes", "-c", str(config), "--json"])

    assert result.exit_code == 1
    assert json.loads(result.stdout)["remarks"][0]["routes"] == ["music", "translate"]
