from dataclasses import replace

import pytest

from rollout_factories import a_spec, an_analysis, begun
from wissel.core.rollouts.analysis import Reading, Verdict
from wissel.core.rollouts.metrics import Comparison, Guard
from wissel.core.rollouts.rollout import Progress, begin
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.gauges import Revision, StoreHealth, show_config, show_rollouts, show_store, show_store_state


def shown(*progress: Progress) -> list[str]:
    telemetry = Telemetry()
    show_rollouts(telemetry.meter, lambda: progress)
    return telemetry.exposition().decode().splitlines()


LOOKED_AT = Progress(
    a_spec(
        analysis=an_analysis(
            Guard("error_rate", max=0.25), Comparison("error_rate", allowed=0.01),
            Comparison("latency_p95", allowed=0.1, relative=True),
        )
    ),
    replace(begun(a_spec()), verdict=Verdict(
        "waiting", "",
        (
            Reading("error_rate max 0.25 guard", "pass", 0.02, 0.01),
            Reading("error_rate allowed_increase 0.01", "waiting", 0.02, 0.01, (-0.01, None)),
            Reading("latency_p95 allowed_increase 10%", "waiting", 3.0, 2.0, is_relative=True),
        ),
    )),
)  # fmt: skip


GUARDED = 'metric="error_rate max 0.25 guard",rollout="chat-v2",unit="share"'
LATENCY = 'metric="latency_p95 allowed_increase 10%",rollout="chat-v2",unit="s"'
ERRORS = 'metric="error_rate allowed_increase 0.01",rollout="chat-v2",unit="share"'


@pytest.mark.parametrize(
    "line",
    [
        'wissel_rollout_weight{rollout="chat-v2"} 10.0',
        'wissel_rollout_lost{rollout="chat-v2"} 0.0',
        'wissel_rollout_phase{phase="progressing",rollout="chat-v2"} 1.0',
        'wissel_rollout_phase{phase="degraded",rollout="chat-v2"} 0.0',
        'wissel_rollout_step{rollout="chat-v2"} 1.0',
        'wissel_rollout_steps{rollout="chat-v2"} 3.0',
        'wissel_rollout_verdict{rollout="chat-v2",verdict="waiting"} 1.0',
        'wissel_rollout_metric_value{arm="canary",' + LATENCY + "} 3.0",
        'wissel_rollout_metric_threshold{end="max",' + GUARDED + "} 0.25",
        'wissel_rollout_metric_threshold{end="max",' + ERRORS + "} 0.02",
        'wissel_rollout_metric_threshold{end="max",' + LATENCY + "} 2.2",
        'wissel_rollout_metric_change{end="lower",' + ERRORS + "} -0.01",
    ],
)
def test_a_rollout_is_told_with_its_metrics_and_their_thresholds(line):
    assert line in shown(LOOKED_AT)


def test_an_end_of_an_interval_that_nothing_is_known_of_is_not_told():
    assert not any("metric_change" in line and 'end="upper"' in line for line in shown(LOOKED_AT))


def test_a_rollout_without_a_record_has_weight_zero_and_no_phase():
    page = shown(Progress(a_spec(), None))

    assert 'wissel_rollout_weight{rollout="chat-v2"} 0.0' in page
    assert not any(line.startswith("wissel_rollout_phase{") for line in page)


def test_a_lost_record_is_told():
    lost = begin(a_spec(), 0.0, lost=True).rollout

    assert 'wissel_rollout_lost{rollout="chat-v2"} 1.0' in shown(Progress(a_spec(), lost))


def test_the_configuration_and_the_store_are_asked_when_they_are_shown():
    telemetry = Telemetry()
    show_config(telemetry.meter, lambda: Revision("r7", 5.0, is_refused=True))
    show_store(telemetry.meter, lambda: StoreHealth(2.5, 3))
    show_store_state(telemetry.meter, ("ok", "oom"), lambda: "oom")
    page = telemetry.exposition().decode().splitlines()

    assert 'wissel_config_info{revision="r7"} 1.0' in page
    assert "wissel_config_loaded_time_seconds 5.0" in page
    assert "wissel_config_refused 1.0" in page
    assert "wissel_store_lag_seconds 2.5" in page
    assert "wissel_store_failures_total 3.0" in page
    assert [line for line in page if line.startswith("wissel_store_state{")] == [
        'wissel_store_state{state="ok"} 0.0',
        'wissel_store_state{state="oom"} 1.0',
    ]
