"""The image, compose and manifests, as far as they can be checked where no container runs.

Envoy itself judges what Envoy will read; Kubernetes' own schemas its kinds, and compose's grammar the compose file.
Of the kinds of Istio and Envoy Gateway only what wissel depends on is checked.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from real import needs_envoy
from wissel.config import load
from wissel.config.load import parse
from wissel.demo.parts import envoy_binary
from wissel.envoy import plan, render

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "config" / "compose"
CLUSTER_HEADER = "x-wissel-cluster"
KUBERNETES = "1.33"


def documents(folder: str) -> Iterator[dict[str, Any]]:
    for path in sorted((ROOT / "envoy" / folder).glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def the(folder: str, kind: str, name: str = "") -> dict[str, Any]:
    found = [each for each in documents(folder) if each["kind"] == kind and name in {"", each["metadata"]["name"]}]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


# The image.


def stages() -> list[list[tuple[str, str]]]:
    """Of the Dockerfile: (instruction, its words) for each stage."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, re.sub(r"\s+", " ", rest)))
    return found


def said(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for each, rest in stage if each == word]


def test_torch_stays_in_the_first_stage():
    build, final = stages()

    assert any("[torch]" in rest for rest in said(build, "RUN"))
    assert not said(final, "RUN")
    assert said(final, "COPY") == [
        "--from=build /opt/wissel /opt/wissel",
        "--from=build /opt/model /opt/model",
    ]


def test_every_installation_in_the_image_is_constrained():
    installs = re.findall(r"pip (?:--python \S+ )?install[^&]*", " && ".join(said(stages()[0], "RUN")))
    pinned = re.findall(r"^torch==[\d.]+$", (ROOT / ".ci/constraints.txt").read_text(), re.MULTILINE)

    assert len(installs) == 3
    assert all("-c .ci/constraints.txt" in install for install in installs)
    assert len(pinned) == 1


def test_the_image_runs_as_a_number_that_is_not_root_and_knows_its_health():
    final = stages()[1]
    (user,) = said(final, "USER")
    (health,) = said(final, "HEALTHCHECK")
    command = ast.literal_eval(health[health.index("[") :])
    compile(command[2], "HEALTHCHECK", "exec")

    assert int(user.split(":")[0]) > 0
    assert "/readyz" in command[2]


def test_the_image_needs_to_compile_nothing_at_its_start():
    build, final = stages()

    assert any(
        "compileall -q --invalidation-mode unchecked-hash /opt/wissel/lib" in rest for rest in said(build, "RUN")
    )
    assert "PYTHONDONTWRITEBYTECODE=1" in " ".join(said(final, "ENV"))


def test_what_the_image_copies_exists_and_is_not_ignored():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for rest in said(stages()[0], "COPY") for word in rest.split()[:-1]}

    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


# Compose.


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_compose_takes_the_file(compose: dict[str, Any]):
    from compose_spec import PyCompose

    merged = yaml.safe_dump({key: value for key, value in compose.items() if not key.startswith("x-")})

    assert PyCompose.from_yaml(merged).to_spec().services


def test_compose_refuses_a_key_that_it_does_not_know():
    from compose_spec import PyCompose

    with pytest.raises(Exception, match="imagee"):
        PyCompose.from_yaml("services: {a: {imagee: b}}")


def test_every_file_that_compose_mounts_is_here(compose: dict[str, Any]):
    mounted = [mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])]
    here = [source for source in mounted if source.startswith(".")]

    assert here
    assert [source for source in here if not (ROOT / source).exists()] == []
    assert {source for source in mounted if not source.startswith(".")} == set(compose["volumes"])


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]):
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_service_but_the_gpus_is_read_only_and_without_capabilities(compose: dict[str, Any]):
    loose = {
        name
        for name, service in compose["services"].items()
        if not (service.get("read_only") and service.get("cap_drop") == ["ALL"])
    }

    assert loose == {"vllm", "router-model"}


def test_the_configuration_names_services_of_compose(compose: dict[str, Any]):
    config = load(COMPOSE / "wissel.yaml")
    assert config.envoy
    assert config.telemetry.otlp
    hosts = {cluster.address.rpartition(":")[0] for cluster in config.envoy.clusters}
    hosts |= {address.rpartition(":")[0] for address in config.envoy.processors or ()}
    hosts |= {url.split("//")[1].rpartition(":")[0] for url in (str(config.redis), config.telemetry.otlp)}

    assert hosts <= set(compose["services"])


def test_prometheus_scrapes_services_of_compose(compose: dict[str, Any]):
    jobs = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text())["scrape_configs"]
    names = {name for job in jobs for found in job["dns_sd_configs"] for name in found["names"]}

    assert names <= set(compose["services"])


def test_composes_envoy_is_what_the_configuration_says():
    assert (COMPOSE / "envoy.yaml").read_text() == render(plan(load(COMPOSE / "wissel.yaml")))


# Kubernetes.


@pytest.mark.parametrize(
    "manifest",
    [each for each in documents("kubernetes") if each["kind"] != "Kustomization"],
    ids=lambda each: f"{each['kind']}-{each['metadata']['name']}",
)
def test_kubernetes_takes_a_manifest(manifest: dict[str, Any]):
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_kubernetes_refuses_a_key_that_it_does_not_know():
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**the("kubernetes", "ConfigMap"), "dataa": {}}, KUBERNETES, strict=True)


def test_every_manifest_is_listed():
    kustomization = yaml.safe_load((ROOT / "envoy/kubernetes/kustomization.yaml").read_text())
    files = {path.name for path in (ROOT / "envoy/kubernetes").glob("*.yaml")}

    assert set(kustomization["resources"]) == files - {"kustomization.yaml"}


def test_every_selector_finds_the_pods():
    labels = the("kubernetes", "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        the("kubernetes", "Deployment")["spec"]["selector"]["matchLabels"],
        the("kubernetes", "Service", "wissel")["spec"]["selector"],
        the("kubernetes", "Service", "wissel-admin")["spec"]["selector"],
        the("kubernetes", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        the("kubernetes", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]

    assert all(selector.items() <= labels.items() for selector in selectors)


def test_the_pod_is_restricted_and_says_when_it_is_ready():
    pod = the("kubernetes", "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (grace,) = [int(container["args"][at + 1]) for at, word in enumerate(container["args"]) if word == "--grace"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["terminationGracePeriodSeconds"] > grace


def test_the_pods_ports_are_those_that_the_configuration_listens_on():
    config = parse(the("kubernetes", "ConfigMap")["data"]["wissel.yaml"])
    (container,) = the("kubernetes", "Deployment")["spec"]["template"]["spec"]["containers"]
    told = {int(address.rpartition(":")[2]) for address in (config.listen.ext_proc, config.listen.admin)}

    assert {port["containerPort"] for port in container["ports"]} == told
    assert config.listen.admin.startswith("0.0.0.0:")


# Istio and Envoy Gateway.


def bootstrap() -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / "envoy.yaml").read_text())


def manager(found: dict[str, Any]) -> dict[str, Any]:
    """The connection manager's configuration."""
    (listener,) = found["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def processor(found: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in found["static_resources"]["clusters"] if each["name"] == "wissel_ext_proc")


def patches() -> dict[str, Any]:
    return {patch["applyTo"]: patch["patch"]["value"] for patch in the("istio", "EnvoyFilter")["spec"]["configPatches"]}


def planless(http_filter: dict[str, Any]) -> dict[str, Any]:
    """The bootstrap's filter where nobody walks plans: that takes a route and upstream filters that only it has."""
    found = deepcopy(http_filter)
    config = found["typed_config"]
    assert config["grpc_service"].pop("initial_metadata")
    config["response_attributes"].remove("upstream.request_attempt_count")
    config["metadata_options"]["receiving_namespaces"]["untyped"].remove("wissel.attempts")
    assert config["mutation_rules"].pop("allow_envoy")
    return found


def test_istios_filter_is_the_one_of_the_bootstrap_without_its_plans():
    assert patches()["HTTP_FILTER"] == planless(manager(bootstrap())["http_filters"][0])


def test_istios_gateway_takes_callers_headers_away_as_the_bootstrap_does():
    patched = patches()["NETWORK_FILTER"]["typed_config"]

    assert "early_header_mutation_extensions" in patched
    assert {key: manager(bootstrap())[key] for key in patched} == patched


def test_istios_cluster_is_the_bootstraps_at_another_address():
    ours, istios = processor(bootstrap()), patches()["CLUSTER"]
    (endpoint,) = istios["load_assignment"]["endpoints"][0]["lb_endpoints"]

    assert {**istios, "load_assignment": None} == {**ours, "load_assignment": None}
    assert endpoint["endpoint"]["address"]["socket_address"] == {
        "address": "wissel.wissel.svc.cluster.local",
        "port_value": 50051,
    }


BESIDE = ROOT / "envoy/istio/beside"


def injected() -> dict[str, Any]:
    """What Istio's template adds to a pod."""
    values = yaml.safe_load((BESIDE / "injection.yaml").read_text())
    return yaml.safe_load(values["sidecarInjectorWebhook"]["templates"]["wissel"])["spec"]


def test_kubernetes_takes_a_pod_with_what_istio_injects():
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gateway"}, "spec": injected()}

    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_what_istio_injects_is_the_deployments_container():
    spec = the("kubernetes", "Deployment")["spec"]["template"]["spec"]
    (theirs,), (ours,) = injected()["containers"], spec["containers"]
    user = {key: spec["securityContext"][key] for key in ("runAsNonRoot", "runAsUser", "runAsGroup")}
    named = [{**mount, "name": f"wissel-{mount['name']}"} for mount in ours["volumeMounts"]]

    assert theirs == {**ours, "volumeMounts": named, "securityContext": {**user, **ours["securityContext"]}}
    assert injected()["volumes"] == [{**each, "name": f"wissel-{each['name']}"} for each in spec["volumes"]]


def beside() -> dict[str, Any]:
    """The cluster of wissel as the patches of `beside` make it."""
    told = yaml.safe_load((BESIDE / "kustomization.yaml").read_text())
    assert all((BESIDE / name).exists() for name in told["resources"])
    patched = the("istio", "EnvoyFilter")
    for change in yaml.safe_load(told["patches"][0]["patch"]):
        *path, last = [int(step) if step.isdecimal() else step for step in change["path"].split("/")[1:]]
        place = reduce(getitem, path, patched)
        assert change["op"] == "replace"
        assert last in place
        place[last] = change["value"]
    return patched["spec"]["configPatches"][0]["patch"]["value"]


def test_a_wissel_beside_envoy_is_the_same_cluster_on_loopback():
    istios = patches()["CLUSTER"]
    istios["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] = (
        "127.0.0.1"
    )

    assert beside() == {**istios, "type": "STATIC"}


def test_only_a_decided_request_is_routed_by_istio():
    *decided, last = the("istio", "VirtualService")["spec"]["http"]

    assert all(set(match["headers"]) == {CLUSTER_HEADER} for route in decided for match in route["match"])
    assert last == {"name": "undecided", "directResponse": {"status": 503}}


def test_envoy_gateway_fails_closed_and_lets_wissel_read_answers():
    (told,) = the("gateway", "EnvoyExtensionPolicy")["spec"]["extProc"]
    ours = planless(manager(bootstrap())["http_filters"][0])["typed_config"]

    assert told["failOpen"] is ours["failure_mode_allow"] is False
    assert told["processingMode"]["allowModeOverride"] is ours["allow_mode_override"] is True
    assert told["processingMode"]["request"]["attributes"] == ours["request_attributes"]
    assert told["processingMode"]["response"]["attributes"] == ours["response_attributes"]
    assert told["metadata"]["writableNamespaces"] == ours["metadata_options"]["receiving_namespaces"]["untyped"]
    assert told["backendRefs"] == [{"name": "wissel", "port": 50051}]


def test_callers_of_envoy_gateway_bring_no_routing_header():
    removed = the("gateway", "ClientTrafficPolicy")["spec"]["headers"]["earlyRequestHeaders"]["remove"]

    assert CLUSTER_HEADER in removed


def test_only_a_decided_request_is_routed_by_envoy_gateway():
    *decided, last = the("gateway", "HTTPRoute")["spec"]["rules"]
    backends = {each["metadata"]["name"] for each in documents("gateway") if each["kind"] == "Backend"}

    assert {match["headers"][0]["name"] for rule in decided for match in rule["matches"]} == {CLUSTER_HEADER}
    assert {ref["name"] for rule in decided for ref in rule["backendRefs"]} == backends
    assert "backendRefs" not in last
    assert the("gateway", "HTTPRouteFilter")["spec"]["directResponse"]["statusCode"] == 503


@pytest.mark.slow
@needs_envoy
@pytest.mark.parametrize("where", ["compose", "istio", "beside"])
def test_envoy_takes_it(tmp_path: Path, where: str):
    found = bootstrap()
    if where != "compose":
        value = patches() if where == "istio" else {**patches(), "CLUSTER": beside()}
        manager(found).update(value["NETWORK_FILTER"]["typed_config"])
        manager(found)["http_filters"][0] = value["HTTP_FILTER"]
        clusters = found["static_resources"]["clusters"]
        clusters[clusters.index(processor(found))] = value["CLUSTER"]
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(found))
    checked = subprocess.run(
        [envoy_binary(), "--mode", "validate", "-c", str(path)], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr
