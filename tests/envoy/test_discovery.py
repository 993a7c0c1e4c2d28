"""What the bootstrap says of clusters that are learnt later, and what is published."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.config import parse
from wissel.envoy import Polled, Publication, Watched, bootstrap, digest, has_wanted, plan, published
from wissel.envoy.plans import ClusterTLS, EnvoyPlan, Probing
from wissel.errors import ConfigError

CONFIG = """
models: [{name: m, cluster: a}]
envoy:
  discovery: %s
  clusters:
    - {name: a, address: "127.0.0.1:1", health_check: {path: /ok, interval: 5s, timeout: 1s}}
"""


def planned(discovery: str) -> EnvoyPlan:
    return plan(parse(CONFIG % discovery))


def test_what_stands_in_the_bootstrap_is_the_default():
    fields: Any = bootstrap(planned("static"))

    assert "dynamic_resources" not in fields
    assert "a" in [each["name"] for each in fields["static_resources"]["clusters"]]


def test_a_file_is_watched_by_its_folder_and_holds_every_cluster_of_the_models():
    fields: Any = bootstrap(planned("{file: /run/wissel/clusters.json}"))
    source = fields["dynamic_resources"]["cds_config"]["path_config_source"]

    assert source == {"path": "/run/wissel/clusters.json", "watched_directory": {"path": "/run/wissel"}}
    assert "a" not in [each["name"] for each in fields["static_resources"]["clusters"]]


def test_an_envoy_elsewhere_asks_an_admin_listener_and_shows_a_token():
    found = planned('{rest: "wissel.example:8081", poll: 500ms, tls: true, token: {file: /etc/token}}')
    fields: Any = bootstrap(found)
    asked = fields["dynamic_resources"]["cds_config"]["api_config_source"]

    assert found.discovery == Polled("wissel.example:8081", 0.5, ClusterTLS("wissel.example"), "/etc/token")
    assert (asked["refresh_delay"], asked["cluster_names"]) == ("0.5s", ["wissel_discovery"])
    assert fields["static_resources"]["secrets"][0]["generic_secret"] == {"secret": {"filename": "/etc/token"}}


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("{}", "either file or rest"),
        ('{file: /a.json, rest: "w:1"}', "either file or rest"),
        ("{file: clusters.json}", "absolute path"),
        ("{file: /a.json, token: {file: /t}}", "token and tls are for rest"),
        ("dynamic", "static"),
        ('{rest: "w:1", token: sk-1}', "token"),
    ],
)
def test_what_cannot_be_meant_is_told(written: str, named: str):
    with pytest.raises(ConfigError, match=named):
        parse(CONFIG % written)


def test_there_has_to_be_something_to_publish():
    with pytest.raises(ConfigError, match=r"envoy\.discovery: there are no clusters to publish"):
        parse("models: [{name: m, cluster: a}]\nenvoy: {discovery: {file: /run/clusters.json}}")


def test_the_name_of_the_admin_listeners_cluster_is_taken():
    with pytest.raises(ConfigError, match='"wissel_discovery" is wissel\'s own'):
        plan(parse((CONFIG % "static").replace(": a", ": wissel_discovery")))


def test_a_health_check_is_asked_for_with_and_without_traffic():
    check: Any = published(planned("static"))["a"]["health_checks"]

    assert planned("static").clusters[0].probing == Probing("/ok", 5.0, 1.0)
    assert (check[0]["interval"], check[0]["no_traffic_interval"], check[0]["timeout"]) == ("5s", "5s", "1s")


def test_what_is_published_is_json_that_names_its_type():
    clusters = published(planned("static"))
    response: Any = json.loads(json.dumps(Publication(clusters).response()))

    assert [each["@type"].rpartition(".")[2] for each in response["resources"]] == ["Cluster"]
    assert response["version_info"] == digest(clusters)


names = st.dictionaries(st.text(max_size=4), st.just({"type": "STATIC"}), max_size=4)


@given(names, names)
def test_a_version_tells_what_is_wanted_whatever_is_kept_besides(wanted: Any, kept: Any):
    version = Publication(wanted, kept).version

    assert has_wanted(version, digest(wanted))
    assert (version == digest(wanted)) == (not kept)


def test_the_file_is_watched():
    assert planned("{file: /run/c.json}").discovery == Watched("/run/c.json")
