"""A `Config` into the snapshot that requests are decided by."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wissel.config import (
    admin_token,
    compile_snapshot,
    host_and_port,
    load,
    parse,
    passthrough_notes,
    price_notes,
    redis_url,
    revision,
)
from wissel.core.access import HeaderMatch, Principal, Rule
from wissel.core.snapshot import ApiKey, Credential, Limit, Passthrough, Price, Rate
from wissel.core.split import KeySource, Split, Variant
from wissel.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config" / "example.yaml"
SHA = "ab" * 32
MODEL = "models: [{name: m, cluster: c}]\n"


def test_the_example_compiles_completely():
    snapshot = compile_snapshot(load(EXAMPLE), {"OPENAI_API_KEY": "sk-x", "WISSEL_ADMIN_TOKEN": "t"})

    assert snapshot.models["gpt-4o"].credential == Credential("secret", "sk-x")
    assert snapshot.models["qwen-coder"].price == Price(0.1, 0.3)
    assert snapshot.splits["coder"] == Split(
        "coder",
        (KeySource("header", "x-session-id"), KeySource("conversation")),
        (Variant("codestral", "codestral", 90), Variant("qwen-coder", "qwen-coder", 10)),
        default="codestral",
        revision=snapshot.splits["coder"].revision,
        caller_share=0.2,
    )
    assert list(snapshot.routes)[:2] == ["bug_fixing", "code_generation"]
    assert snapshot.fallback == "general"
    assert snapshot.aliases["code"] == "coder"
    assert snapshot.names[0] == "auto"
    assert snapshot.rules is not None
    assert next(rule.id for rule in snapshot.rules.rules) == "eng-may-everything"


def test_every_target_has_arms():
    snapshot = compile_snapshot(load(EXAMPLE), {"OPENAI_API_KEY": "sk-x", "WISSEL_ADMIN_TOKEN": "t"})

    assert all(snapshot.arms(route.target) for route in snapshot.routes.values())


def test_a_rule_compiles_with_folded_headers_and_paths():
    config = parse(
        MODEL + "access: {rules: [{id: r, effect: forbid, principals: [ada], models: ['*'], paths: [/V1/Files*],"
        " headers: {X-Beta: {suffix: 'yes'}}, shadow: true}]}"
    )
    (rule,) = (compile_snapshot(config).rules or pytest.fail("no rules")).rules

    assert rule == Rule(
        "r",
        "forbid",
        principals=frozenset({"ada"}),
        models=frozenset({"*"}),
        paths=("/v1/files*",),
        headers=(HeaderMatch("x-beta", "suffix", "yes"),),
        shadow=True,
    )


def test_cached_input_costs_as_other_input_where_the_file_says_nothing_of_it():
    models = "[{name: m, cluster: c, price: {input: 2, output: 4}}, {name: n, cluster: c, price: {cached_input: 0.2}}]"
    known = compile_snapshot(parse(f"models: {models}\n")).models

    assert (known["m"].price, known["n"].price) == (Price(2.0, 4.0, None), Price(0.0, 0.0, 0.2))


def test_what_vectors_are_made_of_is_known_where_the_file_says_it():
    models = "[{name: m, cluster: c}, {name: n, cluster: c, accepts: [text, video]}]"
    known = compile_snapshot(parse(f"models: {models}\n")).models

    assert (known["m"].embeds, known["n"].embeds) == (None, {"text", "video"})


@pytest.mark.parametrize(("written", "tokens"), [("{}", 1024), ("{default_output_tokens: 0}", 0)])
def test_an_answer_of_unknown_length_reserves_what_the_file_says(written, tokens):
    assert compile_snapshot(parse(f"{MODEL}access: {written}\n")).default_output_tokens == tokens


def test_a_key_is_found_by_the_hash_in_lower_case():
    config = parse(f"{MODEL}access: {{keys: [{{id: ada, sha256: {SHA.upper()}, groups: [eng]}}]}}")

    assert compile_snapshot(config).keys == {SHA: ApiKey(Principal("ada", frozenset({"eng"})), SHA)}


def test_without_access_there_are_no_rules_and_with_an_empty_one_nothing_is_permitted():
    assert compile_snapshot(parse(MODEL)).rules is None
    assert compile_snapshot(parse(MODEL + "access: {}")).rules is not None


def test_the_longest_prefix_comes_first():
    config = parse(MODEL + "passthrough: [{path_prefix: /a, cluster: x}, {path_prefix: /A/b/, cluster: y}]")

    assert compile_snapshot(config).passthrough == (Passthrough("/a/b", "y"), Passthrough("/a", "x"))


MADE = "envoy: {clusters: [{name: c, address: 'h:1', path: /openai/v1}, {name: d, address: 'h:1', path: /}]}\n"


def test_what_a_cluster_says_of_its_path_holds_for_all_that_it_serves():
    more = "  - {name: n, cluster: d}\n  - {name: o, cluster: e}\npassthrough: [{path_prefix: /v1/files, cluster: c}]\n"
    snapshot = compile_snapshot(
        parse("models:\n  - {name: m, cluster: c}\n" + more + MADE.replace("]}", ", {name: e, address: 'h:1'}]}"))
    )
    paths = {name: each.base_path for name, each in snapshot.models.items()}

    assert (paths, snapshot.passthrough[0].base_path) == ({"m": "/openai/v1", "n": "", "o": "/v1"}, "/openai/v1")


def test_another_base_path_begins_new_evidence():
    text = "models: [{name: m, cluster: c}]\nsplits: [{name: s, variants: [{model: m, weight: 1}]}]\n"
    before, after = (compile_snapshot(parse(text + each)) for each in (MADE, MADE.replace("/openai/v1", "/openai/v2")))

    assert before.revision != after.revision
    assert before.splits["s"].revision != after.splits["s"].revision


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("{env: K}", Credential("secret", "s3")),
        ("{env: K, header: Authorization}", Credential("secret", "s3", "authorization", "Bearer ")),
        ("{env: K, header: api-key}", Credential("secret", "s3", "api-key", "")),
        ("{env: K, header: authorization, prefix: Token}", Credential("secret", "s3", "authorization", "Token ")),
        ("{env: K, header: authorization, prefix: 'Token '}", Credential("secret", "s3", "authorization", "Token ")),
        ("{env: K, header: x-key, prefix: 'key='}", Credential("secret", "s3", "x-key", "key=")),
    ],
)
def test_a_credential_says_how_it_is_shown(written: str, found: Credential):
    text = (
        f"models: [{{name: m, cluster: c, credential: {written}}}]\n"
        f"passthrough: [{{path_prefix: /p, cluster: c, credential: {written}}}]"
    )
    snapshot = compile_snapshot(parse(text), {"K": "s3"})

    assert (snapshot.models["m"].credential, snapshot.passthrough[0].credential) == (found, found)


@pytest.mark.parametrize(
    ("model", "entry", "providers"),
    [
        ("apis: [messages]", "", ("anthropic", "anthropic")),
        ("apis: [messages], provider: vllm", "", ("vllm", "vllm")),
        ("apis: [chat, messages]", "", ("openai", "openai")),
        ("provider: anthropic", ", provider: openai", ("anthropic", "openai")),
    ],
)
def test_a_server_is_its_providers_as_the_file_says_or_as_its_apis_do(model: str, entry: str, providers):
    text = f"models: [{{name: m, cluster: c, {model}}}]\npassthrough: [{{path_prefix: /p, cluster: c{entry}}}]"
    snapshot = compile_snapshot(parse(text))

    assert (snapshot.models["m"].provider, snapshot.passthrough[0].provider) == providers


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("provider: azure", "/openai/v1"),
        ("provider: azure, api_version: 2024-10-21", "/openai"),
        ("provider: azure, api_version: 2024-10-21, cluster: gate", "/corp/openai"),
        ("provider: gemini", "/v1beta/openai"),
        ("provider: groq, cluster: gate", "/corp/openai"),
    ],
)
def test_a_server_is_below_its_clusters_path_else_its_providers(model: str, path: str):
    clusters = "envoy: {clusters: [{name: c, address: 'h:1'}, {name: gate, address: 'h:1', path: /corp/openai}]}"
    cluster = "" if "cluster" in model else "cluster: c, "
    snapshot = compile_snapshot(parse(f"models: [{{name: m, {cluster}{model}}}]\n{clusters}"))

    assert snapshot.models["m"].base_path == path


@pytest.mark.parametrize(
    ("provider", "apis"),
    [
        ("", {"chat", "completions"}),
        (", provider: anthropic", {"messages"}),
        (", provider: gemini", {"chat"}),
        (", provider: together", {"chat", "completions"}),
        (", provider: gemini, apis: [embeddings]", {"embeddings"}),
    ],
)
def test_a_model_speaks_what_the_file_says_else_what_its_provider_usually_does(provider: str, apis: set[str]):
    snapshot = compile_snapshot(parse(f"models: [{{name: m, cluster: c{provider}}}]"))

    assert snapshot.models["m"].apis == apis


def test_a_default_is_what_json_would_have_of_it():
    written = "{a: 4096, b: 0.5, c: true, d: null, e: low, f: '7', g: {h: [1, x]}, i: NaN}"
    snapshot = compile_snapshot(parse(f"models: [{{name: m, cluster: c, defaults: {written}}}]"))

    assert snapshot.models["m"].defaults == {
        "a": "4096", "b": "0.5", "c": "true", "d": "null", "e": '"low"', "f": '"7"', "g": '{"h": [1, "x"]}',
        "i": '"NaN"',
    }  # fmt: skip


def test_a_passthrough_to_the_models_of_several_providers_follows_none_of_them():
    models = "models: [{name: m, cluster: c, apis: [messages]}, {name: n, cluster: c}]\n"
    text = f"{models}passthrough: [{{path_prefix: /p, cluster: c}}]"

    assert compile_snapshot(parse(text)).passthrough[0].provider == "openai"


def test_a_passthroughs_secret_that_cannot_be_had_is_named_with_its_place():
    text = "models: [{name: m, cluster: c}]\npassthrough: [{path_prefix: /p, cluster: c, credential: {env: ABSENT}}]"

    with pytest.raises(ConfigError) as caught:
        compile_snapshot(parse(text), {})

    assert caught.value.problems == ['passthrough[0].credential: the environment variable "ABSENT" is not set']


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "path_prefix: /v1/files, cluster: c",
            'passthrough "/v1/files" has no credential, and models of its cluster "c" have one',
        ),
        (
            "path_prefix: /v1/messages/count_tokens, cluster: c",
            'passthrough "/v1/messages/count_tokens" is not used for POST',
        ),
    ],
)
def test_a_passthrough_that_does_not_do_what_was_meant_is_told_of(entry: str, said: str):
    text = f"models: [{{name: m, cluster: c, credential: {{env: K}}}}]\npassthrough: [{{{entry}}}]\naccess: {{}}"
    (note,) = passthrough_notes(parse(text))

    assert note.startswith(said)


def test_a_passthrough_with_a_credential_is_as_it_was_meant():
    models = "models: [{name: m, cluster: c, credential: {env: K}}]\naccess: {}\n"
    text = f"{models}passthrough: [{{path_prefix: /p, cluster: c, credential: {{env: K}}}}]"

    assert passthrough_notes(parse(text)) == []


@pytest.mark.parametrize(
    ("limit", "named"), [("usd: 5/d", ['"b"']), ("requests: 5/m", []), ("requests: 5/m, usd: 1/d", ['"b"'])]
)
def test_what_costs_nobody_knows_what_is_told_where_dollars_are_limited(limit: str, named: list[str]):
    models = "models: [{name: a, cluster: c, price: {input: 0}}, {name: b, cluster: c}]\n"
    notes = price_notes(parse(f"{models}access: {{limits: [{{id: l, per: principal, {limit}}}]}}"))

    assert [note.partition("models ")[2].partition(",")[0] for note in notes] == named


def test_forward_needs_no_secret():
    snapshot = compile_snapshot(parse("models: [{name: m, cluster: c, credential: forward}]"), {})

    assert snapshot.models["m"].credential == Credential("forward")


def test_every_secret_that_cannot_be_had_is_named_with_its_place(tmp_path: Path):
    (tmp_path / "empty").write_text("\n")
    config = parse(
        "admin: {token: {env: ABSENT}}\nredis: {url: {env: BLANK}}\nmodels:\n"
        f"  - {{name: a, cluster: c, credential: {{file: {tmp_path}/none}}}}\n"
        f"  - {{name: b, cluster: c, credential: {{file: {tmp_path}/empty}}}}\n"
        "  - {name: d, cluster: c, credential: {env: LINES}}\n"
    )

    with pytest.raises(ConfigError) as caught:
        compile_snapshot(config, {"BLANK": " ", "LINES": "a\nb"})

    assert caught.value.problems == [
        'admin.token: the environment variable "ABSENT" is not set',
        'redis.url: the environment variable "BLANK" is empty',
        f'models[0].credential: the file "{tmp_path}/none" cannot be read: no such file or directory',
        f'models[1].credential: the file "{tmp_path}/empty" is empty',
        (
            'models[2].credential: the environment variable "LINES" holds what no header can carry; '
            "it should be printable ASCII on one line"
        ),
    ]


def test_a_secret_in_a_file_loses_its_line_end(tmp_path: Path):
    (tmp_path / "token").write_text("s3cret\n")

    assert admin_token(parse(f"{MODEL}admin: {{token: {{file: {tmp_path}/token}}}}")) == "s3cret"


def test_redis_is_a_url_or_embedded_or_nothing():
    assert redis_url(parse(MODEL)) is None
    assert redis_url(parse(MODEL + "redis: embedded")) == "embedded"
    assert redis_url(parse(MODEL + "redis: redis://h:1/0")) == "redis://h:1/0"
    assert redis_url(parse(MODEL + "redis: {url: {env: R}}"), {"R": "redis://:pw@h"}) == "redis://:pw@h"


def test_the_parts_of_an_address():
    assert host_and_port("[::1]:80") == ("::1", 80)
    assert host_and_port("localhost:0") == ("localhost", 0)


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_layout_and_the_order_of_keys_do_not_change_the_revision(random: "st.random.Random"):
    def shuffled(value: object) -> object:
        match value:
            case dict():
                keys = list(value)
                random.shuffle(keys)
                return {key: shuffled(value[key]) for key in keys}
            case list():
                return [shuffled(item) for item in value]
            case _:
                return value

    values = yaml.load(EXAMPLE.read_text(), yaml.BaseLoader)
    text = yaml.safe_dump(shuffled(values), sort_keys=False, default_flow_style=random.choice([True, False]))

    assert revision(parse(text)) == revision(load(EXAMPLE))


def test_a_default_that_is_written_out_does_not_change_the_revision():
    written = "models: [{name: m, cluster: c, upstream_model: m, apis: [completions, chat]}]\nintent: {threshold: auto}"

    assert revision(parse(written)) == revision(parse(MODEL))


def test_a_secrets_value_and_where_wissel_listens_do_not_change_the_revision():
    config = parse("models: [{name: m, cluster: c, credential: {env: K}}]")
    moved = parse("models: [{name: m, cluster: c, credential: {env: K}}]\nlisten: {admin: '127.0.0.1:1'}")
    first, second = compile_snapshot(config, {"K": "a"}), compile_snapshot(moved, {"K": "b"})

    assert first.revision == second.revision


@pytest.mark.parametrize("other", ["models: [{name: m, cluster: d}]", MODEL + "access: {}", MODEL + "aliases: {a: m}"])
def test_another_meaning_is_another_revision(other: str):
    assert revision(parse(other)) != revision(parse(MODEL))


def test_a_config_survives_a_round_trip():
    config = load(EXAMPLE)
    text = yaml.safe_dump(config.model_dump(mode="json", exclude_none=True))

    assert parse(text) == config


def test_times_compile_into_a_window_of_the_zone():
    config = parse(
        MODEL + "access: {rules: [{id: r, effect: permit, when: {days: [mon, sun], hours: '22:00-06:30',"
        " zone: Europe/Amsterdam, since: 2027-01-31T09:00:00+01:00}}]}"
    )
    (rule,) = (compile_snapshot(config).rules or pytest.fail("no rules")).rules
    window = rule.when or pytest.fail("no window")

    assert (window.days, window.hours, window.since) == ({0, 6}, (22 * 60, 6 * 60 + 30), 1801382400.0)
    assert (window.zone.offset(1801382400.0), window.zone.offset(1816000000.0)) == (3600, 7200)


def test_limits_compile_into_whole_numbers():
    config = parse(
        "models: [{name: m, cluster: c, price: {input: 1}}]\n"
        "access: {limits: [{id: l, per: header:X-Tenant, requests: 600/m, tokens: 5/h, concurrent: 8, usd: 0.5/d}]}"
    )
    compiled = compile_snapshot(config)

    assert compiled.limits == (
        Limit("l", "header", "x-tenant", Rate(600, 60), Rate(5, 3600), 8, Rate(500_000_000, 86_400)),
    )
    assert compiled.on_store_failure == "local"


@pytest.mark.parametrize("after", ["cluster: d", "cluster: c, upstream_model: x", "cluster: c, price: {output: 2}"])
def test_an_experiments_revision_covers_all_that_its_models_send(after: str):
    text = "models: [{name: m, cluster: c}]\nsplits: [{name: s, variants: [{model: m, weight: 1}]}]"
    found = {compile_snapshot(parse(each)).splits["s"].revision for each in (text, text.replace("cluster: c", after))}

    assert len(found) == 2
