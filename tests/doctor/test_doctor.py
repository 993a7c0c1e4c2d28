"""Our own bootstrap has nothing to change; one that was broken is told by the name of what is broken."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from typer.testing import CliRunner

from real import needs_envoy
from wissel.cli import app
from wissel.config import Config, load, parse
from wissel.demo.parts import envoy_binary, free_port
from wissel.demo.stage import Stage, running_stage
from wissel.doctor import Finding, Probe, State, diagnose, examine, judge
from wissel.envoy import EnvoyPlan, bootstrap, digest, plan, published
from wissel.errors import UpstreamError
from wissel.runtime.child import running

Fields = dict[str, Any]

CONFIG = parse("""
models: [{name: gpt-4o, cluster: openai}, {name: qwen, cluster: qwen}]
intent: {deadline_ms: 300}
failover: {first_token: held}
envoy:
  clusters:
    - {name: qwen, address: "10.0.0.7:8000"}
    - {name: openai, address: "api.openai.com:443", tls: true}
""")
HEALTHY = {"eds_health_status": "HEALTHY"}


def sample(**changes: Any) -> Fields:
    return deepcopy(bootstrap(replace(plan(CONFIG), **changes)))


def dump_of(started_with: Fields) -> Fields:
    """What Envoy's `/config_dump` shows of a bootstrap, as far as the doctor reads it."""
    resources = started_with["static_resources"]
    return {
        "configs": [
            {"static_clusters": [{"cluster": each} for each in resources["clusters"]]},
            {"static_listeners": [{"listener": each} for each in resources["listeners"]]},
        ]
    }


def host(port: int = 50051, **health: Any) -> Fields:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"address": address, "health_status": {**HEALTHY, **health}}


def processors(*hosts: Fields) -> Fields:
    return {"cluster_statuses": [{"name": "wissel_ext_proc", "host_statuses": list(hosts)}]}


def findings_of(started_with: Fields, *hosts: Fields, workers: int = 1, **stats: int) -> list[Finding]:
    counters = {f"http.wissel.ext_proc.{name}": value for name, value in stats.items()}
    clusters = processors(*(hosts or [host()]))
    return examine(dump_of(started_with), counters, clusters, CONFIG, workers=workers)


def told(findings: list[Finding]) -> set[tuple[str, str]]:
    """What is not fine."""
    return {(each.what, each.severity) for each in findings if each.severity != "ok"}


def manager(fields: Fields) -> Fields:
    return fields["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def ext_proc(fields: Fields) -> Fields:
    return manager(fields)["http_filters"][0]["typed_config"]


def route(fields: Fields) -> Fields:
    return manager(fields)["route_config"]["virtual_hosts"][0]["routes"][0]


def cluster(fields: Fields, name: str) -> Fields:
    return next(each for each in fields["static_resources"]["clusters"] if each["name"] == name)


def planned_route(fields: Fields) -> Fields:
    """That of requests with more than one model."""
    return manager(fields)["route_config"]["virtual_hosts"][0]["routes"][1]


def specifier(fields: Fields) -> Fields:
    return planned_route(fields)["route"]["inline_cluster_specifier_plugin"]["extension"]["typed_config"]


def filters_of_attempts(fields: Fields) -> list[Fields]:
    options = cluster(fields, "qwen")["typed_extension_protocol_options"]
    return options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["http_filters"]


def held_stage(fields: Fields) -> Fields:
    return filters_of_attempts(fields)[2]["typed_config"]["extension_config"]["typed_config"]


def attempt_stage(fields: Fields) -> Fields:
    return filters_of_attempts(fields)[0]["typed_config"]["extension_config"]["typed_config"]


def validation(fields: Fields) -> Fields:
    tls = cluster(fields, "openai")["transport_socket"]["typed_config"]
    return tls["common_tls_context"]["validation_context"]


@pytest.mark.parametrize("mode", ["BUFFERED", "FULL_DUPLEX_STREAMED"])
def test_our_own_bootstrap_has_nothing_to_change(mode: str):
    assert told(findings_of(sample(request_body_mode=mode))) == set()


def test_what_is_fine_is_told_as_well():
    fine = {each.what for each in findings_of(sample())}

    assert {"filter", "failure_mode_allow", "message_timeout", "upstream_tls", "processors", "callers_headers"} <= fine


def per_route(**fields: Any) -> Fields:
    kind = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
    return {"typed_per_filter_config": {"envoy.filters.http.ext_proc": {"@type": kind, **fields}}}


Break = Callable[[Fields], Any]

BREAKAGES: dict[str, tuple[Break, str, str]] = {
    "no filter": (lambda b: manager(b)["http_filters"].pop(0), "filter", "problem"),
    "filter after the router": (lambda b: manager(b)["http_filters"].reverse(), "filter", "problem"),
    "filter disabled": (lambda b: manager(b)["http_filters"][0].update(disabled=True), "filter", "problem"),
    "fails open": (lambda b: ext_proc(b).update(failure_mode_allow=True), "failure_mode_allow", "problem"),
    "fails open on a route": (
        lambda b: route(b).update(per_route(overrides={"failure_mode_allow": True})), "failure_mode_allow", "problem",
    ),
    "disabled on a route": (lambda b: route(b).update(per_route(disabled=True)), "per_route", "problem"),
    "another mode on a host": (
        lambda b: manager(b)["route_config"]["virtual_hosts"][0].update(
            per_route(overrides={"processing_mode": {"request_body_mode": "STREAMED"}})
        ),
        "request_body_mode", "problem",
    ),
    "only watching": (lambda b: ext_proc(b).update(observability_mode=True), "observability_mode", "problem"),
    "no refusals": (
        lambda b: ext_proc(b).update(disable_immediate_response=True), "disable_immediate_response", "problem",
    ),
    "default message timeout": (lambda b: ext_proc(b).pop("message_timeout"), "message_timeout", "problem"),
    "message timeout at the deadline": (
        lambda b: ext_proc(b).update(message_timeout="0.300s"), "message_timeout", "problem",
    ),
    "message timeout near the deadline": (
        lambda b: ext_proc(b).update(message_timeout="0.5s"), "message_timeout", "warning",
    ),
    "call with a timeout": (lambda b: ext_proc(b)["grpc_service"].update(timeout="30s"), "grpc_timeout", "problem"),
    "no retry": (lambda b: ext_proc(b)["grpc_service"].pop("retry_policy"), "retry_policy", "warning"),
    "streamed requests": (
        lambda b: ext_proc(b)["processing_mode"].update(request_body_mode="STREAMED"), "request_body_mode", "problem",
    ),
    "no request body": (
        lambda b: ext_proc(b)["processing_mode"].pop("request_body_mode"), "request_body_mode", "problem",
    ),
    "no request headers": (
        lambda b: ext_proc(b)["processing_mode"].update(request_header_mode="SKIP"), "request_header_mode", "problem",
    ),
    "no response headers": (
        lambda b: ext_proc(b)["processing_mode"].update(response_header_mode="SKIP"),
        "response_header_mode", "problem",
    ),
    "buffered answers": (
        lambda b: ext_proc(b)["processing_mode"].update(response_body_mode="BUFFERED"),
        "response_body_mode", "problem",
    ),
    "no override": (lambda b: ext_proc(b).update(allow_mode_override=False), "mode_override", "warning"),
    "one override missing": (lambda b: ext_proc(b)["allowed_override_modes"].pop(), "mode_override", "warning"),
    "route kept": (lambda b: ext_proc(b).update(disable_clear_route_cache=True), "clear_route_cache", "problem"),
    "route retained": (lambda b: ext_proc(b).update(route_cache_action="RETAIN"), "clear_route_cache", "problem"),
    "no metadata": (
        lambda b: ext_proc(b)["metadata_options"]["receiving_namespaces"]["untyped"].remove("wissel"),
        "metadata", "warning",
    ),
    "no details of responses": (lambda b: ext_proc(b).pop("response_attributes"), "response_attributes", "problem"),
    "callers' headers stay": (
        lambda b: manager(b).pop("early_header_mutation_extensions"), "callers_headers", "problem",
    ),
    "impatient with silence": (
        lambda b: manager(b).update(stream_idle_timeout="60s"), "stream_idle_timeout", "warning",
    ),
    "bounded streams": (
        lambda b: manager(b)["common_http_protocol_options"].update(max_stream_duration="60s"),
        "max_stream_duration", "problem",
    ),
    "default route timeout": (lambda b: route(b)["route"].pop("timeout"), "route_timeout", "problem"),
    "impatient route": (lambda b: route(b)["route"].update(idle_timeout="20s"), "route_idle_timeout", "warning"),
    "small bodies only": (lambda b: route(b).pop("request_body_buffer_limit"), "buffer_limit", "warning"),
    "a cluster in place of the decision": (
        lambda b: route(b).update(route={"cluster": "qwen", "timeout": "0s"}), "cluster_header", "problem",
    ),
    "no cluster of that name": (lambda b: cluster(b, "qwen").update(name="quen"), "clusters", "problem"),
    "plain text": (lambda b: cluster(b, "openai").pop("transport_socket"), "upstream_tls", "problem"),
    "any certificate": (lambda b: validation(b).pop("trusted_ca"), "upstream_tls", "problem"),
    "anybody's certificate": (
        lambda b: validation(b).pop("match_typed_subject_alt_names"), "upstream_tls", "problem",
    ),
    "the route learns no plan": (
        lambda b: ext_proc(b)["metadata_options"]["receiving_namespaces"]["untyped"].remove("wissel.attempts"),
        "attempts_metadata", "problem",
    ),
    "the same model again": (
        lambda b: planned_route(b)["route"]["retry_policy"].pop("refresh_cluster_on_retry"),
        "refresh_cluster_on_retry", "problem",
    ),
    "undecided requests have a server": (
        lambda b: specifier(b)["priority_groups"][0]["clusters"][0].update(cluster_name="qwen"),
        "undecided", "problem",
    ),
    "no attempt stage": (lambda b: filters_of_attempts(b).pop(0), "attempt_stage", "problem"),
    "an attempt stage that is told nothing": (
        lambda b: attempt_stage(b).pop("metadata_options"), "attempts_metadata", "problem",
    ),
    "no stage that holds answers": (lambda b: filters_of_attempts(b).pop(2), "held_stage", "problem"),
    "a stage that sees no answer before its headers are let go": (
        lambda b: held_stage(b)["processing_mode"].update(response_body_mode="STREAMED"), "held_stage", "problem",
    ),
    "an attempt stage that fails open": (
        lambda b: attempt_stage(b).update(failure_mode_allow=True), "attempt_fails_closed", "problem",
    ),
    "no health checks": (lambda b: cluster(b, "wissel_ext_proc").pop("health_checks"), "health_checks", "warning"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_breakage_is_told_by_its_name_and_nothing_else_is(name: str):
    spoil, what, severity = BREAKAGES[name]
    spoiled = sample()
    spoil(spoiled)

    assert told(findings_of(spoiled)) == {(what, severity)}


def test_every_trouble_comes_with_what_to_change():
    for spoil, _, _ in BREAKAGES.values():
        spoiled = sample()
        spoil(spoiled)

        assert all(each.change for each in findings_of(spoiled) if each.severity != "ok")


def test_an_identity_that_envoy_verifies_has_to_be_forwarded():
    access = {"envoy_identity": {}, "rules": [{"id": "all", "effect": "permit"}]}
    config = CONFIG.model_validate({**CONFIG.model_dump(mode="json", exclude_none=True), "access": access})
    shown, hidden = (dump_of(bootstrap(plan(each))) for each in (config, CONFIG))

    assert told(examine(shown, {}, processors(host()), config)) == set()
    assert told(examine(hidden, {}, processors(host()), config)) == {("verified_identity", "problem")}


def test_a_filter_that_asks_somebody_else_is_none_of_ours():
    spoiled = sample()
    other = deepcopy(manager(spoiled)["http_filters"][0])
    other["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = "waf"
    manager(spoiled)["http_filters"].insert(0, other)
    other["typed_config"]["failure_mode_allow"] = True

    assert told(findings_of(spoiled)) == set()


def test_our_cluster_may_have_another_name():
    renamed = sample()
    cluster(renamed, "wissel_ext_proc")["name"] = "outbound|50051||wissel"
    ext_proc(renamed)["grpc_service"]["envoy_grpc"]["cluster_name"] = "outbound|50051||wissel"
    hosts = {"cluster_statuses": [{"name": "outbound|50051||wissel", "host_statuses": [host()]}]}

    assert told(examine(dump_of(renamed), {}, hosts, CONFIG)) == set()


def test_envoys_clusters_may_be_described_elsewhere():
    config = parse("models: [{name: qwen, cluster: qwen}]\nintent: {deadline_ms: 300}\nenvoy: {listen: '127.0.0.1:1'}")

    assert told(examine(dump_of(sample()), {}, processors(host()), config)) == set()


def test_routes_may_come_from_a_control_plane():
    dynamic = sample()
    table = manager(dynamic).pop("route_config")
    manager(dynamic)["rds"] = {"route_config_name": table["name"]}
    table["virtual_hosts"][0]["routes"][0]["route"]["timeout"] = "15s"
    dump = dump_of(dynamic)
    dump["configs"].append({"dynamic_route_configs": [{"route_config": table}]})

    assert told(examine(dump, {}, processors(host()), CONFIG)) == {("route_timeout", "problem")}


def test_a_listener_without_models_is_nobodys_business():
    two = sample()
    other = deepcopy(two["static_resources"]["listeners"][0])
    mine = {"filter_chains": [{"filters": [{"typed_config": manager(two)}]}]}
    two["static_resources"]["listeners"] = [other, {"name": "metrics", **deepcopy(mine)}]
    inner = two["static_resources"]["listeners"][1]["filter_chains"][0]["filters"][0]["typed_config"]
    inner["http_filters"].pop(0)
    inner["route_config"]["virtual_hosts"][0]["routes"] = [{"match": {"prefix": "/"}, "route": {"cluster": "admin"}}]

    assert told(findings_of(two)) == set()


@pytest.mark.parametrize(
    ("hosts", "workers", "expected"),
    [
        ([], 1, {("processors", "problem")}),
        ([host(failed_active_health_check=True)], 1, {("processors", "problem")}),
        ([host(), host(50052, failed_active_health_check=True)], 2, {("processors", "warning")}),
        ([host()], 3, {("processors", "problem")}),
        ([host(), host(50052)], 2, set()),
    ],
)
def test_every_worker_must_be_there_and_well(hosts: list[Fields], workers: int, expected: set[tuple[str, str]]):
    found = examine(dump_of(sample()), {}, processors(*hosts), CONFIG, workers=workers)

    assert told(found) == expected


@pytest.mark.parametrize(
    ("counter", "severity"),
    [
        ("failure_mode_allowed", "problem"),
        ("spurious_msgs_received", "problem"),
        ("message_timeouts", "warning"),
        ("rejected_header_mutations", "problem"),
        ("clear_route_cache_ignored", "problem"),
        ("clear_route_cache_disabled", "problem"),
    ],
)
def test_what_envoy_counted_is_explained(counter: str, severity: str):
    found = findings_of(sample(), **{counter: 3})

    assert told(found) == {(counter, severity)}
    assert "3 times" in next(each.why for each in found if each.what == counter)


@pytest.mark.parametrize(
    ("status", "has_request_id", "streams", "severity"),
    [(200, True, 1, "ok"), (401, True, 1, "ok"), (200, False, 0, "problem"), (503, False, 1, "problem"),
     (200, True, 0, "problem"), (None, False, 0, "warning")],
)  # fmt: skip
def test_only_an_answer_of_ours_about_which_envoy_asked_is_proof(
    status: int | None, has_request_id: bool, streams: int, severity: str
):
    assert judge(Probe("http://e/v1/models", status, has_request_id, streams)).severity == severity


# --- A real Envoy ------------------------------------------------------------------------------------------------

DOCUMENT: Fields = {"models": [{"name": "small", "cluster": "a"}, {"name": "large", "cluster": "b"}]}


@pytest.mark.slow
@needs_envoy
async def test_a_whole_installation_is_well_and_one_of_another_file_is_told(tmp_path: Path):
    async with running_stage(DOCUMENT, tmp_path) as stage:
        await _serve_one(stage)
        found = await diagnose(stage.config)
        other = load(stage.path).model_dump(mode="json", exclude_none=True)
        for each in other["envoy"]["clusters"]:
            each["address"] = "127.0.0.1:9"
        of_another = await diagnose(stage.config.model_validate(other))

    assert told(found) == set()
    assert "was answered by wissel (200)" in next(each.why for each in found if each.what == "probe")
    assert told(of_another) == {("discovery", "problem")}


async def _serve_one(stage: Stage) -> None:
    async with stage.client("any") as client:
        await client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}])


UNLUCKY = (
    "fails open", "default message timeout", "call with a timeout", "no retry", "no response headers",
    "buffered answers", "one override missing", "route kept", "no metadata", "no details of responses",
    "callers' headers stay", "impatient with silence", "default route timeout", "small bodies only",
    "disabled on a route",
)  # fmt: skip


def undefended(bootstrapped: Fields) -> None:
    bootstrapped.pop("layered_runtime")


LACKING: dict[str, tuple[Break, str]] = {
    "no guard": (undefended, "runtime_guard"),
    "another guard": (
        lambda b: b["layered_runtime"]["layers"][0]["static_layer"].update(
            {"envoy.reloadable_features.grpc_side_stream_flow_control": True}
        ),
        "runtime_guard",
    ),
    **{
        name: BREAKAGES[name][:2]
        for name in (
            "the route learns no plan", "the same model again", "undecided requests have a server", "no attempt stage",
            "an attempt stage that is told nothing", "an attempt stage that fails open", "no cluster of that name",
            "no stage that holds answers", "a stage that sees no answer before its headers are let go",
        )
    },
}  # fmt: skip


def placed(home: Path) -> Config:
    """A configuration whose Envoy has ports of its own, and whose wissel does not run."""
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    clusters = [{"name": name, "address": "127.0.0.1:9"} for name in ("qwen", "openai")]
    models = [{"name": "gpt-4o", "cluster": "openai"}, {"name": "qwen", "cluster": "qwen"}]
    document = {
        "models": models,
        "intent": {"deadline_ms": 300},
        "failover": {"first_token": "held"},
        "envoy": {"listen": listen, "admin": admin, "clusters": clusters},
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}"},
    }
    path = home / "wissel.yaml"
    path.write_text(yaml.safe_dump(document))
    return load(path)


async def found_in(home: Path, config: Config, fields: Fields) -> list[Finding]:
    """What is said of a real Envoy that was started so."""
    assert config.envoy is not None
    ready = f"http://{config.envoy.admin}/ready"
    (home / "envoy.yaml").write_text(yaml.safe_dump(fields))
    command = [envoy_binary(), "-c", str(home / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1"]
    async with aiohttp.ClientSession() as session:

        async def is_live() -> bool:
            try:
                async with session.get(ready) as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        async with running(command, log=home / "envoy.log", ready=is_live):
            return await diagnose(config)


@pytest.mark.slow
@needs_envoy
@pytest.mark.parametrize("name", LACKING)
async def test_a_real_envoy_that_lacks_one_thing_is_told_of_exactly_that(name: str, tmp_path: Path):
    spoil, what = LACKING[name]
    config = placed(tmp_path)
    broken = deepcopy(bootstrap(plan(config)))
    spoil(broken)
    found = told(await found_in(tmp_path, config, broken))

    assert found - {("probe", "problem"), ("processors", "problem")} == {(what, "problem")}


@pytest.mark.slow
@needs_envoy
async def test_a_real_envoy_with_everything_wrong_is_told_as_the_same_bootstrap_on_paper(tmp_path: Path):
    config = placed(tmp_path)
    broken = deepcopy(bootstrap(plan(config)))
    for name in UNLUCKY:
        BREAKAGES[name][0](broken)
    found = await found_in(tmp_path, config, broken)

    on_paper = told(examine(dump_of(broken), {}, {}, config))
    assert {(BREAKAGES[name][1], BREAKAGES[name][2]) for name in UNLUCKY} <= on_paper
    assert told(found) - {("probe", "problem")} == on_paper
    assert ("probe", "problem") in told(found)


async def test_an_envoy_that_is_not_there_is_told():
    with pytest.raises(UpstreamError, match="does not answer"):
        await diagnose(CONFIG, envoy=f"http://127.0.0.1:{free_port()}")


def test_the_command_needs_to_know_where_envoy_is(tmp_path: Path):
    path = tmp_path / "wissel.yaml"
    path.write_text("models: [{name: m, cluster: c}]\n")

    assert CliRunner().invoke(app, ["doctor", "-c", str(path)]).exit_code == 2


def test_the_command_exits_with_one_where_something_must_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def diagnosed(*_: Any, **__: Any) -> list[Finding]:
        return [Finding("filter", "problem", "there is none", "add it"), Finding("metadata", "ok", "it is kept")]

    monkeypatch.setattr("wissel.doctor.diagnose", diagnosed)
    path = tmp_path / "wissel.yaml"
    path.write_text("models: [{name: m, cluster: c}]\n")
    as_json, as_text = (CliRunner().invoke(app, ["doctor", "-c", str(path), *more]) for more in (["--json"], []))

    assert (as_json.exit_code, json.loads(as_json.stdout)["ok"]) == (1, False)
    assert as_text.stdout.splitlines() == ["✗ filter: there is none", "    add it", "✓ metadata: it is kept"]


# --- What Envoy learns while it runs ------------------------------------------------------------------------------


LEARNING = CONFIG.model_validate(
    {
        **CONFIG.model_dump(mode="json", exclude_none=True),
        "envoy": {
            **CONFIG.model_dump(mode="json", exclude_none=True)["envoy"],
            "discovery": {"file": "/run/wissel/clusters.json"},
        },
    }
)
WANTED = digest(published(plan(LEARNING)))


@pytest.mark.parametrize(
    ("version", "severity"),
    [(WANTED, "ok"), (f"{WANTED}+0123", "ok"), ("0123", "problem"), ("", "problem")],
)
def test_the_clusters_that_envoy_has_learnt_are_compared_with_the_file(version: str, severity: str):
    found = examine(dump_of(sample()), {}, processors(host()), LEARNING, state=State({}, version))

    assert [each.severity for each in found if each.what == "discovery"] == [severity]


def test_where_clusters_stand_in_the_bootstrap_nothing_is_learnt():
    found = examine(dump_of(sample()), {}, processors(host()), CONFIG, state=State({}, ""))

    assert [each for each in found if each.what == "discovery"] == []


FALLING_BACK = parse("""
models: [{name: gpt-4o, cluster: openai, fallbacks: [qwen]}, {name: qwen, cluster: qwen}]
intent: {deadline_ms: 300}
envoy:
  clusters:
    - {name: qwen, address: "10.0.0.7:8000"}
    - {name: openai, address: "api.openai.com:443", tls: true}
""")


@pytest.mark.parametrize(
    ("config", "minor", "severity"),
    [
        (FALLING_BACK, 39, "problem"),
        (FALLING_BACK, 40, "ok"),
        (FALLING_BACK, 41, "ok"),
        (CONFIG, 39, "ok"),
    ],
)
def test_an_envoy_that_knows_no_order_of_clusters_is_too_old_for_fallbacks(config: Config, minor: int, severity: str):
    dump = dump_of(sample())
    build = {"version": {"major_number": 1, "minor_number": minor, "patch": 3}}
    dump["configs"].append({"bootstrap": {"node": {"user_agent_build_version": build}}})
    found = examine(dump, {}, processors(host()), config)

    assert [each.severity for each in found if each.what == "version"] == [severity]


def test_fallbacks_without_a_route_that_tries_them_are_told_of():
    spoiled = sample()
    manager(spoiled)["route_config"]["virtual_hosts"][0]["routes"].pop()

    assert told(examine(dump_of(spoiled), {}, processors(host()), FALLING_BACK)) == {("fallbacks", "warning")}
    assert told(examine(dump_of(spoiled), {}, processors(host()), CONFIG)) == set()


@pytest.mark.parametrize(
    ("mode", "told_of"), [("BUFFERED", "left out"), ("FULL_DUPLEX_STREAMED", "refused with 400, since Envoy's retry")]
)
def test_it_says_what_becomes_of_trailers(mode: str, told_of: str):
    [why] = [each.why for each in findings_of(sample(request_body_mode=mode)) if each.what == "request_trailers"]

    assert told_of in why


@pytest.mark.slow
@needs_envoy
async def test_an_envoy_that_takes_no_clusters_from_wissel_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def static(config: Config) -> EnvoyPlan:
        return replace(plan(config), discovery=None)

    monkeypatch.setattr("wissel.demo.stage.plan", static)
    async with running_stage(DOCUMENT, tmp_path) as stage:
        await _serve_one(stage)
        found = await diagnose(stage.config)

    assert told(found) == {("discovery", "problem")}
