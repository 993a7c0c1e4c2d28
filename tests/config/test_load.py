"""A file into a `Config`, or into every problem that it has."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wissel.config import Config, compile_snapshot, load, parse
from wissel.config.load import MAX_HINTS
from wissel.core.pin import PinPolicy
from wissel.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "config"
SHA = "ab" * 32

BASE = """\
models:
  - {name: small, cluster: a}
  - {name: large, cluster: b}
entrypoints: [auto]
intent: {fallback: general}
routes:
  - {name: code, description: source code, target: half}
  - {name: general, target: small}
splits:
  - {name: half, variants: [{model: small, weight: 1}, {model: large, weight: 1}]}
"""


def problems_of(text: str | bytes) -> list[str]:
    try:
        parse(text, "f")
    except ConfigError as error:
        return error.problems
    return []


def only_problem(text: str) -> str:
    found = problems_of(text)
    assert len(found) == 1, found
    return found[0]


def models(more: str) -> str:
    return f"models: [{{name: m, cluster: c}}]\n{more}"


def test_the_base_of_these_tests_has_no_problem():
    assert problems_of(BASE) == []


@pytest.mark.parametrize("name", ["example.yaml", "minimal.yaml"])
def test_the_examples_load(name: str):
    assert isinstance(load(EXAMPLES / name), Config)


def test_a_name_stays_text_and_a_number_becomes_one():
    config = parse("models: [{name: 1.10, cluster: no, context: 4096}]\naliases: {on: 1.10}")

    assert (config.models[0].name, config.models[0].cluster, config.models[0].context) == ("1.10", "no", 4096)
    assert config.aliases == {"on": "1.10"}


def test_defaults_are_those_of_the_documentation():
    config = parse(BASE)

    assert config.models[0].upstream_model == "small"
    assert config.models[0].apis == {"chat", "completions"}
    assert config.models[0].accepts == {"text"}
    assert config.splits[0].key == ("header:x-session-id", "conversation")
    assert config.splits[0].variants[1].name == "large"
    assert (config.intent.threshold, config.intent.deadline_ms) == ("auto", 150)
    assert (config.listen.ext_proc, config.listen.admin) == ("127.0.0.1:50051", "127.0.0.1:8081")
    assert config.processors == ("127.0.0.1:50051",)
    assert config.access is None


def test_one_run_reports_shapes_and_references_in_the_order_of_the_file():
    text = """\
models:
  - {name: coder, clustr: qwen}
  - {name: coder, cluster: qwen, context: 32k}
routes:
  - {name: fix, descripton: bugs, target: codr}
intent: {fallbck: fix}
entrypoints: [auto]
"""

    assert problems_of(text) == [
        'f:2:19: models[0].clustr: unknown key "clustr"; did you mean "cluster"?',
        'f:3:12: models[1].name: "coder" already names a model at models[0].name in line 2',
        'f:3:43: models[1].context: should be a whole number, and is "32k"',
        'f:5:17: routes[0].descripton: unknown key "descripton"; did you mean "description"?',
        'f:5:43: routes[0].target: no model, split, rollout or tier is named "codr"; did you mean "coder"?',
        'f:6:10: intent.fallbck: unknown key "fallbck"; did you mean "fallback"?',
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "f:1:1: should be a mapping, and is a list"),
        ("entrypoints: []", "f:1:1: models: missing"),
        ("models: []", "f:1:9: models: should have at least one member, and is empty"),
        ("models: [{name: m}]", "f:1:10: models[0].cluster: missing"),
        (models("modles: 1"), 'f:2:1: modles: unknown key "modles"; did you mean "models"?'),
        (
            models("admin: {token: hunter2}"),
            ("f:2:16: admin.token: a secret is never written here: give {env: NAME} or {file: PATH}"),
        ),
        (models("admin: {token: {}}"), "f:2:16: admin.token: should have either env or file"),
        (
            models("redis: http://x"),
            (
                'f:2:8: redis: should be "embedded" or a URL that begins with redis://, rediss://, '
                "unix://, redis+sentinel:// or redis+cluster://, and has 8 characters of another form"
            ),
        ),
        (
            models("redis: redis://:hunter2@h/0"),
            ("f:2:8: redis: a password is never written here: give {url: {env: NAME}} or {url: {file: PATH}}"),
        ),
        (
            models("listen: {admin: localhost}"),
            ('f:2:17: listen.admin: should be an address such as "127.0.0.1:8081" or "[::1]:8081", and is "localhost"'),
        ),
        (
            models("listen: {admin: 'h:99999'}\nadmin: {token: {env: X}}"),
            ('f:2:17: listen.admin: the port should be at most 65535, and the address is "h:99999"'),
        ),
        (
            models("telemetry: {prometheus: maybe}"),
            'f:2:25: telemetry.prometheus: should be true or false, and is "maybe"',
        ),
        (
            models("intent: {threshold: high}"),
            ('f:2:21: intent.threshold: should be auto or a number from -1 to 1, and is "high"'),
        ),
        (
            models("intent: {threshold: nan}"),
            ('f:2:21: intent.threshold: should be auto or a number from -1 to 1, and is "nan"'),
        ),
        (models("intent: {deadline_ms: 0}"), 'f:2:23: intent.deadline_ms: should be greater than 0, and is "0"'),
        (
            models("intent: {classifier: {type: embeding}}"),
            (
                "f:2:29: intent.classifier.type: should be embedding or static or arch_router or remote or cascade, "
                'and is "embeding"; did you mean "embedding"?'
            ),
        ),
        (models("intent: {classifier: {}}"), "f:2:22: intent.classifier.type: missing"),
        (models("intent: {classifier: embedding}"), "f:2:22: intent.classifier: should be a mapping"),
        (models("intent: {classifier: {type: arch_router}}"), "f:2:22: intent.classifier.model: missing"),
        (
            models("intent: {classifier: {type: remote, model: m, endpoints: ['http://h/v1'], endpoint: x}}"),
            'f:2:75: intent.classifier.endpoint: unknown key "endpoint"; did you mean "endpoints"?',
        ),
        (
            models("intent: {classifier: {type: remote, model: m, endpoints: ['http://h/v1'], api_key: sk-x}}"),
            "f:2:84: intent.classifier.api_key: a secret is never written here: give {env: NAME} or {file: PATH}",
        ),
        (
            models("intent: {classifier: {type: cascade, stages: [{type: embedding}, {type: cascade, stages: []}]}}"),
            (
                "f:2:73: intent.classifier.stages[1].type: should be embedding or static or arch_router or remote, "
                'and is "cascade"'
            ),
        ),
        (
            models("intent: {classifier: {type: cascade, stages: [{type: embedding}]}}"),
            "f:2:46: intent.classifier.stages: should be at least two classifiers, the cheapest first",
        ),
        (
            models("aliases: {'a b': m}"),
            (
                'f:2:11: aliases["a b"]: should be a name of at most 128 letters, digits and '
                '. _ : / @ + -, beginning with a letter or digit, and is "a b"'
            ),
        ),
        (models("entrypoints: auto"), 'f:2:14: entrypoints: should be a list, and is "auto"; write [auto]'),
        (
            "models: [{name: m, cluster: c, price: {input: -1}}]",
            ('f:1:47: models[0].price.input: should be at least 0, and is "-1"'),
        ),
        (
            "models: [{name: m, cluster: c, credential: sk-abc}]",
            (
                "f:1:44: models[0].credential: a secret is never "
                "written here: give {env: NAME} or {file: PATH}, or forward to pass the caller's own on"
            ),
        ),
        (
            "models: [{name: m, cluster: c, credential: {evn: X}}]",
            ('f:1:45: models[0].credential.evn: unknown key "evn"; did you mean "env"?'),
        ),
        (
            "models: [{name: m, cluster: c, credential: {env: X, header: host}}]",
            (
                'f:1:61: models[0].credential.header: "host" belongs to the connection, to Envoy or to wissel; '
                "no credential stands there"
            ),
        ),
        (
            "models: [{name: m, cluster: c, credential: {env: X, header: 'Bearer sk-abc'}}]",
            (
                "f:1:61: models[0].credential.header: should be the name of a header, "
                "and has 13 characters of another form"
            ),
        ),
        (
            "models: [{name: m, cluster: c, credential: {env: X, prefix: 'Schlüssel sk-abc'}}]",
            (
                "f:1:61: models[0].credential.prefix: should be what stands before the secret, such as Bearer, "
                "and has 16 characters of another form"
            ),
        ),
        (
            "models: [{name: m, cluster: c, provider: antropic}]",
            (
                "f:1:42: models[0].provider: should be openai or anthropic or azure or gemini or bedrock or mistral "
                'or groq or together or vllm or ollama, and is "antropic"; did you mean "anthropic"?'
            ),
        ),
        (
            "models: [{name: m, cluster: c, stream_usage: no}]",
            'f:1:46: models[0].stream_usage: should be ask or never, and is "no"',
        ),
        (
            "models: [{name: m, cluster: c, forward_headers: [Authorization]}]",
            (
                'f:1:50: models[0].forward_headers[0]: "authorization" is where wissel\'s own keys stand; '
                "with credential: forward it goes on"
            ),
        ),
        (
            models("envoy: {clusters: [{name: c, address: 'h:1', path: openai}]}"),
            (
                'f:2:52: envoy.clusters[0].path: should be a path that begins with "/", without "//", "?" and "#", '
                'and is "openai"'
            ),
        ),
        (
            models("envoy: {clusters: [{name: c, addresses: [{address: 'h:1'}, {address: 'h:2'}], aws: {region: r}}]}"),
            "f:2:20: envoy.clusters[0]: a signature is for one host: give one address, or tls",
        ),
        (
            models("envoy: {clusters: [{name: c, address: 'h:1', aws: {service: bedrock}}]}"),
            "f:2:51: envoy.clusters[0].aws.region: missing",
        ),
        (
            (
                "models: [{name: m, cluster: c, credential: forward}]\n"
                "envoy: {clusters: [{name: c, address: 'h:1', aws: {region: eu-west-1}}]}"
            ),
            ("f:1:44: models[0].credential: Envoy signs what goes to this cluster (aws), and shows nothing else there"),
        ),
        (
            "models: [{name: m, cluster: c, drop_params: [seed], defaults: {seed: 1}}]",
            'f:1:46: models[0].drop_params[0]: "seed" is one of its defaults as well; a model gets it or does not',
        ),
        (
            "models: [{name: m, cluster: c, drop_params: [messages]}]",
            "f:1:46: models[0].drop_params[0]: wissel decides by this member, so it stays as the caller wrote it",
        ),
        (
            "models: [{name: m, cluster: c, provider: gemini, apis: [chat, responses]}]",
            ('f:1:63: models[0].apis[1]: "responses" is no API of gemini\'s servers, which have chat, embeddings'),
        ),
        (
            "models: [{name: m, cluster: c, api_version: v1}]",
            "f:1:45: models[0].api_version: belongs to `provider: azure`; other servers read no version",
        ),
        (
            models("envoy: {clusters: [{name: c, address: 'h:1', addresses: [{address: 'h:2'}]}]}"),
            "f:2:20: envoy.clusters[0]: should have either address or addresses",
        ),
        (
            models("envoy: {clusters: [{name: c, tls: true, addresses: [{address: 'g:1'}, {address: 'h:1'}]}]}"),
            (
                "f:2:20: envoy.clusters[0]: servers of several hosts need tls.sni: "
                "the name that the certificates of all have"
            ),
        ),
        (
            "models: [{name: m, cluster: c, apis: [chat, chta]}]",
            (
                "f:1:45: models[0].apis[1]: should be chat or "
                'completions or responses or messages or embeddings, and is "chta"; did you mean "chat"?'
            ),
        ),
        ("models: [{name: [a], cluster: c}]", "f:1:17: models[0].name: should be text, and is a list"),
    ],
)
def test_a_wrong_shape_is_said_with_its_place_and_what_would_be_right(text: str, said: str):
    assert only_problem(text) == said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "target: half",
            "target: haf",
            'routes[0].target: no model, split, rollout or tier is named "haf"; did you mean "half"?',
        ),
        (
            "target: half",
            "target: auto",
            'routes[0].target: "auto" is an entrypoint; here belongs a model, split, rollout or tier',
        ),
        ("fallback: general", "fallback: genral", 'no route is named "genral"; did you mean "general"?'),
        ("fallback: general", "fallback: small", 'no route is named "small"'),
        ("{fallback: general}", "{deadline_ms: 9}", "intent.fallback: missing; name the route"),
        ("entrypoints: [auto]", "", "routes: no request reaches the routes"),
        ("[auto]", "[auto, auto]", 'entrypoints[1]: "auto" already names an entrypoint at entrypoints[0]'),
        ("[auto]", "[auto, small]", 'entrypoints[1]: "small" already names a model at models[0].name in line 2, and'),
        ("[auto]", "[auto]\naliases: {half: small}", 'aliases.half: "half" already names a split'),
        (
            "[auto]",
            "[auto]\naliases: {x: smal}",
            'aliases.x: no model, split, rollout or tier is named "smal"; did you mean "small"?',
        ),
        ("{model: large,", "{model: lrge,", 'variants[1].model: no model is named "lrge"; did you mean "large"?'),
        ("{model: large,", "{model: half,", 'variants[1].model: "half" is a split; here belongs a model'),
        (
            "{model: large,",
            "{model: small,",
            'variants[1].model: "small" already names a variant in line 10; give each',
        ),
        ("{model: large,", "{name: small, model: large,", 'variants[1].name: "small" already names a variant'),
        ("weight: 1}", "weight: 0}", "splits[0].variants: the weights sum to 0"),
        ("name: code,", "name: other,", 'routes[0].name: "other" is the intent of a request that matches no route'),
        ("name: code,", "name: general,", 'routes[1].name: "general" already names a route'),
        ("description: source code, ", "", "routes[0].description: missing; with neither description nor examples"),
    ],
)
def test_parts_that_do_not_fit_together_are_found(before: str, after: str, said: str):
    assert before in BASE

    assert said in only_problem(BASE.replace(before, after))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("access: {rules: [{id: r, effect: permit, models: [half]}]}", '"half" is a split; a rule names models'),
        (
            "access: {rules: [{id: r, effect: permit, models: [smal]}]}",
            'no model is named "smal"; did you mean "small"?',
        ),
        ("access: {rules: [{id: r, effect: permit, routes: [cod]}]}", 'no route is named "cod"; did you mean "code"?'),
        ("access: {rules: [{id: r, effect: permit, models: []}]}", "models: should have at least one member"),
        (
            "access: {rules: [{id: r, effect: permit, paths: [v1]}]}",
            "paths[0]: should be a pattern of paths that begins",
        ),
        ("access: {rules: [{id: r, effect: permit}, {id: r, effect: forbid}]}", '"r" already names a rule'),
        ("access: {rules: [{id: r, effect: permit, headers: {x: {exact: a, prefix: b}}}]}", "exactly one of exact, "),
        (
            "access: {rules: [{id: r, effect: permit, headers: {X: {exact: a}, x: {exact: b}}}]}",
            '"x" has two conditions',
        ),
        (
            "access: {rules: [{id: r, effect: permit, headers: {x-wissel-a: {exact: b}}}]}",
            "is always removed; list it in",
        ),
        ("access: {allow_headers: [x-foo]}", 'should be the name of a header that begins with "x-wissel-"'),
        ("access: {allow_headers: [X-Wissel-Cluster]}", '"x-wissel-cluster" is wissel\'s own answer'),
        ("access:", "access: nothing is written here"),
        (f"access: {{keys: [{{id: a, sha256: {SHA}}}, {{id: a, sha256: {'cd' * 32}}}]}}", '"a" already names a key'),
        ("passthrough: [{path_prefix: v1, cluster: a}]", 'should be a path that begins with "/"'),
        ("passthrough: [{path_prefix: /v1, cluster: a}]", '"/v1" covers /v1/chat/completions, which wissel routes'),
        ("passthrough: [{path_prefix: /V1/Embeddings/, cluster: a}]", "covers /v1/embeddings"),
        ("passthrough: [{path_prefix: /, cluster: a}]", '"/" covers /v1/chat/completions'),
        (
            "listen: {admin: '0.0.0.0:80'}",
            '"0.0.0.0:80" can be reached from other machines, so admin.token or admin.tls.client_ca is required',
        ),
        (
            "listen: {admin: 'h:1', ext_proc: 'h:1'}\nadmin: {token: {env: X}}",
            '"h:1" is also the address of listen.ext_proc',
        ),
        (
            "envoy: {clusters: [{name: a, address: 'h:1'}, {name: bb, address: 'h:1'}]}",
            ('no cluster of envoy.clusters is named "b"; did you mean "bb"?'),
        ),
    ],
)
def test_a_section_that_does_not_fit_the_rest_is_found(section: str, said: str):
    assert said in only_problem(f"{BASE}{section}\n")


def test_sessions_are_told_apart_by_a_header_that_callers_can_send():
    text = BASE.replace("{fallback: general}", "{fallback: general, pin: {header: X-Wissel-Run, keep: 1h}}")
    allowed = f"{text}access: {{allow_headers: [x-wissel-run]}}\n"

    assert 'a caller\'s "x-wissel-run" is always removed' in only_problem(text)
    assert compile_snapshot(parse(allowed)).pin == PinPolicy("x-wissel-run", 3600.0)


def test_a_split_key_on_a_header_that_callers_cannot_send_is_found():
    text = BASE.replace("{name: half,", "{name: half, key: [header:X-Wissel-Bucket],")

    assert 'a caller\'s "x-wissel-bucket" is always removed' in only_problem(text)
    assert problems_of(f"{text}access: {{allow_headers: [x-wissel-bucket]}}\n") == []


def test_entrypoints_need_routes():
    assert "and there are no routes" in only_problem(models("entrypoints: [auto]"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.8.8:1", "'[::1]:1'", "localhost:1"])
def test_the_admin_listener_needs_no_token_on_loopback(address: str):
    assert problems_of(models(f"listen: {{admin: {address}}}")) == []


def test_a_secret_written_by_mistake_is_never_repeated():
    text = models(
        "admin: {token: hunter2}\nredis: redis://u:hunter2@h\n"
        "access: {keys: [{id: a, sha256: hunter2}, {id: b, sha256: hunter2}]}"
    )

    assert len(problems_of(text)) == 4
    assert "hunter2" not in "\n".join(problems_of(text))


def test_two_keys_of_one_secret_are_found_whatever_their_case():
    text = models(f"access: {{keys: [{{id: a, sha256: {SHA}}}, {{id: b, sha256: {SHA.upper()}}}]}}")

    assert "the same secret as access.keys[0].sha256 in line 2" in only_problem(text)


def test_nothing_is_said_about_names_that_may_stand_where_a_shape_is_wrong():
    text = BASE.replace("{name: small, cluster: a}", "{nmae: small, cluster: a}")

    assert problems_of(text) == ['f:2:6: models[0].nmae: unknown key "nmae"; did you mean "name"?']


def test_the_second_of_two_sections_does_not_hide_what_is_wrong_in_the_first():
    text = models("access: {rules: [{id: r, effect: alow}]}\naccess: {}")

    assert problems_of(text) == [
        'f:2:34: access.rules[0].effect: should be permit or forbid, and is "alow"',
        'f:3:1: access: the key "access" is written twice, first in line 2',
    ]


def test_of_very_many_problems_only_the_first_come_with_a_suggestion():
    aliases = "".join(f"  a{number}: smal\n" for number in range(60))
    found = problems_of(f"{BASE}aliases:\n{aliases}")

    assert [problem.endswith('did you mean "small"?') for problem in found] == [True] * MAX_HINTS + [False] * 10


def test_a_file_that_is_not_there_is_the_operators_error(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: no such file or directory"):
        load(tmp_path / "absent.yaml")


def test_problems_name_the_file(tmp_path: Path):
    path = tmp_path / "w.yaml"
    path.write_text("models: 3")

    with pytest.raises(ConfigError) as caught:
        load(path)

    assert caught.value.problems == [f'{path}:1:9: models: should be a list, and is "3"; write [3]']


def lines_of_keys(text: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines()) if re.match(r"[ -]*[\w-]+:( |$)", line)]


EXAMPLE = (EXAMPLES / "example.yaml").read_text()
BLOCK_STYLE = yaml.safe_dump(yaml.load(EXAMPLE, yaml.BaseLoader), sort_keys=False, width=1000)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(lines_of_keys(BLOCK_STYLE)))
def test_an_unknown_key_is_reported_with_its_line_wherever_it_stands(number: int):
    lines = BLOCK_STYLE.splitlines()
    line = lines[number]
    indent = len(line) - len(line.lstrip("- "))
    if line.lstrip().startswith("- "):
        lines[number] = line[:indent] + "zzz: 1\n" + " " * indent + line[indent:]
    else:
        lines.insert(number, " " * indent + "zzz: 1")
    found = problems_of("\n".join(lines))

    # In `aliases` and `headers` any key is a name; there its value is what is wrong.
    assert any(problem.startswith(f"f:{number + 1}:") and "zzz" in problem for problem in found)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_gives_a_config_or_a_config_error_and_nothing_else(data: st.DataObject):
    start = data.draw(st.integers(0, len(EXAMPLE)))
    end = data.draw(st.integers(start, min(len(EXAMPLE), start + 40)))
    patch = data.draw(st.text(max_size=8) | st.sampled_from(["{", "[", "- ", "\n", ": ", "*a", "&a ", "!!map ", "~"]))

    for problem in problems_of(EXAMPLE[:start] + patch + EXAMPLE[end:]):
        assert problem.startswith("f:")


@settings(max_examples=30, deadline=None)
@given(st.recursive(st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_values_give_a_config_or_a_config_error_and_nothing_else(values: object):
    keys = ["models", "routes", "splits", "access", "envoy", "intent", "aliases", "redis", "listen", "entrypoints"]

    assert problems_of(yaml.safe_dump(dict.fromkeys(keys, values), allow_unicode=True))


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("{}", "should have at least one of days, hours, since, until"),
        ("{days: [friday]}", "should be mon or tue"),
        ("{hours: 9-17}", 'should be two times of the day, such as "09:00-17:30"'),
        ("{hours: '25:00-26:00'}", "should be two times of the day"),
        ("{days: [mon], zone: Europe/Amsterdm}", 'no time zone is named "Europe/Amsterdm"'),
        ("{days: [mon], zone: ../etc/passwd}", "should be the name of a time zone"),
        ("{since: 2027-01-31}", "with Z or a distance from UTC"),
        ("{since: 2027-02-30T00:00:00Z}", '"2027-02-30T00:00:00Z" does not exist'),
        ("{since: 2027-02-01T00:00:00Z, until: 2027-01-01T00:00:00Z}", "until should come after since"),
    ],
)
def test_a_time_that_cannot_be_is_a_problem(when: str, words: str):
    assert words in only_problem(models(f"access: {{rules: [{{id: r, effect: permit, when: {when}}}]}}"))


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("{id: l, per: principal}", "should have at least one of requests, tokens, concurrent, usd"),
        ("{id: l, per: team, requests: 1/m}", "should be one of principal, group, model, route, header:NAME"),
        ("{id: l, per: group, requests: 600}", "a number in a time, such as 600/m"),
        ("{id: l, per: group, requests: 0/m}", "a number in a time, such as 600/m"),
        ("{id: l, per: group, concurrent: 0}", "should be greater than 0"),
        ("{id: l, per: group, usd: 5/d}", "no model has a price, so nothing would be counted as spent"),
        ("{id: l, per: group, usd: 0.0/d}", "dollars in a time"),
        ("{id: l, per: header:X-Wissel-Tenant, requests: 1/m}", 'a caller\'s "x-wissel-tenant" is always removed'),
        ("{id: l, per: group, requests: 1/m}, {id: l, per: group, tokens: 1/m}", '"l" already names a limit'),
    ],
)
def test_a_limit_that_limits_nothing_is_a_problem(limit: str, words: str):
    assert words in only_problem(models(f"access: {{limits: [{limit}]}}"))


TIERED = BASE + "tiers:\n  - {name: thrifty, strong: large, weak: half, grader: {type: length}, strong_share: 0.3}\n"


def test_a_tier_is_a_target_and_its_ends_are_models_or_splits():
    config = parse(TIERED.replace("target: half", "target: thrifty"), "f")

    assert (config.tiers[0].strong, config.tiers[0].weak, config.tiers[0].fallback) == ("large", "half", "strong")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("weak: half", "weak: haf", 'tiers[0].weak: no model, split or rollout is named "haf"; did you mean "half"?'),
        ("weak: half", "weak: thrifty", 'tiers[0].weak: "thrifty" is a tier; here belongs a model, split or rollout'),
        ("weak: half", "weak: large", 'tiers[0].weak: "large" is the strong end as well'),
        ("name: thrifty", "name: half", '"half" already names a split'),
        ("strong_share: 0.3", "threshold: 0.3, strong_share: 0.3", "should have either strong_share or threshold"),
        ("strong_share: 0.3", "threshold: 0.3, threshold_min: 0.1", "limits a threshold that moves"),
        ("strong_share: 0.3", "strong_share: 30", "tiers[0].strong_share"),
        ("strong_share: 0.3", "strong_share: 0.3, learn: {explore: 0.1}", "what it keeps is kept in redis"),
        ("type: length", "type: lenght", 'did you mean "length"?'),
        ("grader: {", "router: {", 'tiers[0].router: unknown key "router"; did you mean "grader"?'),
        ("type: length", "type: similarity", 'the grader "similarity" should have path'),
        ("type: length", "type: length, path: x", 'the grader "length" should have no path'),
    ],
)
def test_what_is_wrong_with_a_tier_is_found(before: str, after: str, said: str):
    assert before in TIERED
    assert said in only_problem(TIERED.replace(before, after))


@pytest.mark.parametrize(
    ("learn", "said"),
    [
        ("{}", "tiers[0].learn.explore: missing"),
        ("{explore: 0.51}", "tiers[0].learn.explore: should be at most 0.5"),
        ("{explore: 0.1, keep: 10s}", "tiers[0].learn.keep: should be at least 60"),
        ("{explore: 0.1, prompt: true}", 'did you mean "prompts"?'),
    ],
)
def test_what_is_wrong_with_what_a_tier_learns_is_found(learn: str, said: str):
    text = TIERED.replace("strong_share: 0.3", f"strong_share: 0.3, learn: {learn}") + "redis: embedded\n"

    assert said in only_problem(text)


def test_a_share_that_exploring_alone_exceeds_is_found():
    text = TIERED.replace("strong_share: 0.3", "strong_share: 0.04, learn: {explore: 0.1}") + "redis: embedded\n"

    assert "strong_share should lie between 0.05 and 0.95" in only_problem(text)


ROLLOUT = """
models:
  - {name: small, cluster: a}
  - {name: large, cluster: b}
redis: embedded
rollouts:
  - name: next
    stable: small
    canary: large
    steps: [{set_weight: 10}, {pause: {duration: 10m}}, {analysis: {proof: non_inferior}}, {set_weight: 50}]
    analysis:
      metrics:
        - {name: error_rate, max: 0.25, guard: true}
        - {name: latency_p95, allowed_increase: 10%}
"""


def test_a_rollout_is_read():
    (rollout,) = parse(ROLLOUT).rollouts

    assert [type(step).__name__ for step in rollout.steps] == ["Weight", "Pause", "AnalysisStep", "Weight"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("redis: embedded\n", "", 'rollouts keep their state in redis; add redis: a URL, or "embedded"'),
        ("canary: large", "canary: small", "is also stable; there is nothing to roll out"),
        ("canary: large", "canary: lrage", 'no model is named "lrage"; did you mean "large"?'),
        ("error_rate, max", "eror_rate, max", 'no built-in metric is named "eror_rate"; did you mean "error_rate"?'),
        ("guard: true", "guard: true, min: 0", "a guard should have max alone"),
        (
            "metrics:\n        - {name: error_rate, max: 0.25,",
            "prometheus: http://p:9090\n      metrics:\n        - {name: queue, query: avg(q), max: 9,",
            "a query takes a fixed limit",
        ),
        ("duration: 10m", "duration: 10", 'should be a duration such as "150ms"'),
        ("allowed_increase: 10%", "allowed_increase: 10 %", "should be a number, a share"),
        ("set_weight: 50", "set_weight: 150", "rollouts[0].steps[3].set_weight"),
        ("set_weight: 50", "set_wait: 50", 'did you mean "set_weight"?'),
    ],
)
def test_what_is_wrong_with_a_rollout_is_told(before, after, said):
    assert said in only_problem(ROLLOUT.replace(before, after))
