import pytest

from wissel.classifiers.arch_prompt import PROFILES
from wissel.classifiers.build import Classifiers
from wissel.classifiers.problems import problems
from wissel.config import compile_snapshot, parse
from wissel.core.request import Conversation, Turn
from wissel.errors import ConfigError

FILE = """
models: [{name: m, cluster: c}]
entrypoints: [auto]
routes: [{name: fix, target: m, description: fix bugs}, {name: general, target: m}]
intent: {fallback: general, classifier: CLASSIFIER}
"""
REMOTE = "{type: remote, endpoints: ['http://127.0.0.1:1/v1'], model: arch, budget: BUDGET}"


def config(classifier):
    return parse(FILE.replace("CLASSIFIER", classifier))


def of(classifier):
    return problems(config(classifier).intent)


@pytest.mark.parametrize("source", ["/absent/model", "./absent", "~/absent"])
def test_a_path_without_a_model_is_told(source):
    assert of(f"{{type: arch_router, model: {source}}}") == [f'intent.classifier.model: no model at "{source}"']


def test_a_folder_that_holds_no_model_is_told_with_its_stage(tmp_path):
    (problem,) = of(f"{{type: cascade, stages: [{{type: embedding}}, {{type: arch_router, model: {tmp_path}}}]}}")

    assert problem.startswith(f'intent.classifier.stages[1].model: "{tmp_path}" should be a folder')


def test_a_folder_with_a_model_or_an_id_of_the_hub_may_be(tmp_path):
    (tmp_path / "config.json").touch()

    assert of(f"{{type: arch_router, model: {tmp_path}}}") == of("{type: arch_router, model: some/model}") == []


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_least_budget_shows_the_model_something(profile):
    chat = Conversation((Turn("user", "my code has a bug"),))

    assert profile.trim(chat, profile.least_budget)
    assert not profile.trim(chat, profile.least_budget - 1)


def test_a_budget_that_leaves_no_room_for_a_conversation_is_told():
    least = PROFILES["arch_router"].least_budget

    assert of(REMOTE.replace("BUDGET", str(least))) == []
    (problem,) = of(REMOTE.replace("BUDGET", str(least - 1)))
    assert problem.startswith(f"intent.classifier.budget: should be at least {least}, and is {least - 1}")


def test_a_timeout_that_no_request_waits_for_is_told():
    (problem,) = of(REMOTE.replace("budget: BUDGET", "timeout_ms: 150"))

    assert problem.startswith("intent.classifier.timeout_ms: should be less than intent.deadline_ms, 150, and is 150")
    assert of(REMOTE.replace("budget: BUDGET", "timeout_ms: 149")) == []


async def test_what_has_problems_is_not_built():
    read = config(REMOTE.replace("BUDGET", "1"))

    with pytest.raises(ConfigError, match=r"intent\.classifier\.budget"):
        await Classifiers().build(read.intent, compile_snapshot(read))
