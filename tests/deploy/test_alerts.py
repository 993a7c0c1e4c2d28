"""Every alert fires in a story of what goes wrong, and none while all is well.

A story is lived by two replicas with wissel's own meters. Prometheus' own tests
of rules read the page of each once a minute, as Prometheus would: a metric or
label that is renamed on one side only breaks the story.
"""

import functools
import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.prometheus import CONFIG, RULES, needs_prometheus, rules
from factories import model
from rollout_factories import a_spec, begun
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Reason, Routed
from wissel.core.outcome import Fault, Outcome
from wissel.core.rollouts.evidence import Missing
from wissel.core.rollouts.rollout import Move, Progress, Rollout, abort, advance, begin, pause, promote
from wissel.store.health import STATES
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.gauges import (
    Revision,
    StoreHealth,
    show_config,
    show_cooling,
    show_rollouts,
    show_store,
    show_store_state,
)

HOUR = 60
"""In minutes: a story yields once a minute."""
SPEC = a_spec()


class Replica:
    """What one wissel tells Prometheus; a story changes what there is to tell."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = True
        self.revision = Revision("r1", 0.0, is_refused=False)
        self.store = StoreHealth(0.5, 0)
        self.redis = "ok"
        self.rollout: Rollout | None = None
        self.resting: Mapping[str, str] = {}
        self.telemetry = Telemetry()
        show_config(self.telemetry.meter, lambda: self.revision)
        show_cooling(self.telemetry.meter, lambda: ("small", "large"), lambda: self.resting)
        show_store(self.telemetry.meter, lambda: self.store)
        show_store_state(self.telemetry.meter, STATES, lambda: self.redis)
        show_rollouts(self.telemetry.meter, lambda: (Progress(SPEC, self.rollout),))

    def serve(self, count: int, *, status: int = 200, reason: Reason = "split", fault: Fault = "") -> None:
        """So many requests, each decided and answered by its model."""
        decision = Routed(model("small"), "ab", "canary", reason, ANONYMOUS, "r1", route="talk")
        outcome = Outcome(status, 1.0, "chat", code_details="via_upstream", headers_after=0.5, fault=fault)
        for _ in range(count):
            self.telemetry.decided(decision, 0.001)
            self.telemetry.ended(decision, outcome)

    def scraped(self) -> Iterator[tuple[str, float]]:
        """(series, value) of all that Prometheus knows after a scrape, with the labels that it adds."""
        place = {"job": "wissel", "instance": self.name}
        yield _series("up", place), float(self.is_up)
        if self.is_up:
            for name, labels, value in _read(self.telemetry.exposition().decode()):
                yield _series(name, {**labels, **place}), value


@functools.lru_cache(maxsize=2)
def _read(page: str) -> list[tuple[str, dict[str, str], float]]:
    """Once for as long as nothing happens."""
    families = text_string_to_metric_families(page)
    return [(each.name, each.labels, each.value) for family in families for each in family.samples]


def _series(name: str, labels: Mapping[str, str]) -> str:
    return f"{name}{{{','.join(f'{label}={json.dumps(value)}' for label, value in labels.items())}}}"


Story = Callable[[Replica, Replica], Iterator[None]]
"""Changes what two replicas have to tell, and yields once a minute."""


def told(story: Story) -> tuple[int, dict[str, list[str]]]:
    """How many minutes it took, and what was scraped in them."""
    replicas = Replica("a"), Replica("b")
    series: defaultdict[str, list[str]] = defaultdict(list)
    minutes = 0
    for _ in story(*replicas):
        for replica in replicas:
            for name, value in replica.scraped():
                # What was not there is no sample.
                series[name] += ["_"] * (minutes - len(series[name])) + [str(value)]
        minutes += 1
    return minutes, series


def for_long(minutes: int, **facts: object) -> Story:
    """One replica is so from the second hour on, for so many minutes."""

    def story(a: Replica, _: Replica) -> Iterator[None]:
        yield from quiet(HOUR)
        for name, value in facts.items():
            setattr(a, name, value)
        yield from quiet(minutes)

    return story


def quiet(minutes: int) -> Iterator[None]:
    for _ in range(minutes):
        yield


def models_fail(*, one_in: int) -> Story:
    def story(a: Replica, b: Replica) -> Iterator[None]:
        for _ in range(2 * HOUR):
            a.serve(one_in - 1)
            b.serve(1, status=503)
            yield

    return story


def models_refuse(status: int, *, fault: Fault = "", one_in: int = 1) -> Story:
    def story(a: Replica, b: Replica) -> Iterator[None]:
        yield from quiet(5)
        for _ in range(20):
            a.serve(one_in - 1)
            b.serve(1, status=status, fault=fault)
            yield

    return story


def requests_fail(a: Replica, b: Replica) -> Iterator[None]:
    yield from quiet(HOUR)
    b.telemetry.exchange_failed("exception")
    yield from quiet(4)


def nobody_counts(a: Replica, _: Replica) -> Iterator[None]:
    yield from quiet(HOUR)
    for _ in range(5):
        a.telemetry.drew(None, 0.001)
    yield from quiet(4)


def classifier_is_late(a: Replica, b: Replica) -> Iterator[None]:
    for _ in range(HOUR):
        a.serve(9)
        b.serve(1, reason="error")
        yield


def store_is_away(a: Replica, _: Replica) -> Iterator[None]:
    for minute in range(HOUR):
        a.store = StoreHealth(60.0 * minute, minute)
        yield


def all_is_well(a: Replica, b: Replica) -> Iterator[None]:
    a.rollout = b.rollout = begun(SPEC)
    for minute in range(2 * HOUR):
        a.serve(25)
        b.serve(25)
        if minute % 10 == 0:
            a.serve(1, status=503)
            a.serve(5, status=422)
            b.serve(1, reason="error")
        if minute == HOUR:
            a.rollout = b.rollout = moved(promote(begun(SPEC), SPEC, 60.0, by="ada"))
        yield


def moved(move: object) -> Rollout:
    assert isinstance(move, Move)
    return move.rollout


STORIES: dict[str, Story] = {
    "WisselErrorBudgetBurnsFast": models_fail(one_in=10),
    "WisselErrorBudgetBurns": models_fail(one_in=25),
    "WisselDown": for_long(3, is_up=False),
    "WisselFailsRequests": requests_fail,
    "WisselFailsOpen": nobody_counts,
    "WisselFallsBack": classifier_is_late,
    "WisselProviderRefusesUs": models_refuse(401, fault="operator", one_in=10),
    "WisselModelRefuses": models_refuse(404),
    "WisselModelRests": for_long(7, resting={"large": "failing"}),
    "WisselConfigRefused": for_long(3, revision=Revision("r1", 0.0, is_refused=True)),
    "WisselReplicasDisagree": for_long(12, revision=Revision("r2", 0.0, is_refused=False)),
    "WisselRedisUnwell": for_long(3, redis="oom"),
    "WisselStoreLag": store_is_away,
    "WisselRolloutStuck": for_long(4 * HOUR + 5, rollout=begun(SPEC)),
    "WisselRolloutCannotMeasure": for_long(20, rollout=moved(advance(begun(SPEC), SPEC, Missing("no redis"), 30.0))),
    "WisselRolloutWaitsForSomebody": for_long(12 * HOUR + 5, rollout=moved(pause(begun(SPEC), 30.0, by="ada"))),
    "WisselRolloutRecordLost": for_long(3, rollout=moved(begin(SPEC, 0.0, lost=True))),
    "WisselRolledBack": for_long(3, rollout=moved(abort(begun(SPEC), 30.0, by="ada"))),
}


def checked(story: Story, alerts: Iterable[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Whether exactly these alerts fire at the end of the story, by Prometheus' own tests of rules."""
    minutes, series = told(story)
    query = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minutes - 1}m",
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts],
    }
    given = [{"series": name, "values": " ".join(values)} for name, values in series.items()]
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [query]}
    shutil.copy(RULES, tmp_path)
    path = tmp_path / "test.yml"
    path.write_text(json.dumps({"rule_files": [RULES.name], "evaluation_interval": "1m", "tests": [test]}))
    return subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)


def test_every_alert_has_a_story_in_which_it_fires():
    assert set(STORIES) == {rule["alert"] for rule in rules() if "alert" in rule}


@needs_prometheus
@pytest.mark.slow
@pytest.mark.parametrize("alert", STORIES)
def test_an_alert_fires_when_it_should(alert: str, tmp_path: Path):
    both = ["WisselErrorBudgetBurns", "WisselErrorBudgetBurnsFast"]
    done = checked(STORIES[alert], both if alert == both[1] else [alert], tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
@pytest.mark.slow
def test_no_alert_fires_when_all_is_well(tmp_path: Path):
    done = checked(all_is_well, [], tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_how_bad_it_is_and_what_it_means():
    alerts = [rule for rule in rules() if "alert" in rule]

    assert {rule["labels"]["severity"] for rule in alerts} == {"page", "ticket"}
    assert all(rule["annotations"]["summary"] for rule in alerts)


@needs_prometheus
def test_prometheus_takes_the_configuration_and_the_rules(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("secret")
    text = (CONFIG / "prometheus/prometheus.yml").read_text()
    assert "/run/secrets/wissel_admin_token" in text
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/wissel_admin_token", str(token)))
    shutil.copy(RULES, tmp_path)
    checked = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
