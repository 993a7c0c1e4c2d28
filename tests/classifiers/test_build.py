from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from threadpoolctl import threadpool_info

from classifiers.tiny_router_model import arch_model
from wissel.classifiers import build as building
from wissel.classifiers.arch_router import ArchRouter
from wissel.classifiers.build import IN_TIME, ROUTER_MODEL_MARGIN, Classifiers
from wissel.classifiers.cascade import Cascade
from wissel.classifiers.embedding import EmbeddingClassifier
from wissel.classifiers.encoders import Loaded
from wissel.classifiers.imitation import Imitation
from wissel.classifiers.margins import MARGIN, learn_margin, margin_beside
from wissel.classifiers.matching import SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook
from wissel.classifiers.remote import RemoteRouterModel
from wissel.config import compile_snapshot, model, parse
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route
from wissel.encoders.base import read_with
from wissel.encoders.batching import Batcher
from wissel.encoders.static import Immediate
from wissel.errors import ConfigError

FILE = """
models: [{name: m, cluster: c}]
entrypoints: [auto]
routes: [{name: fix, target: m, description: fix bugs}, {name: general, target: m}]
intent: {fallback: general, threshold: THRESHOLD, deadline_ms: DEADLINE, classifier: CLASSIFIER}
"""
REMOTE = "{type: remote, endpoints: ['http://127.0.0.1:1/v1'], model: arch, api_key: {env: KEY}}"
ARCH = "{type: arch_router, model: MODEL}"


class Spoken:
    """Stands for an encoder."""

    name, dimensions = "words", 64

    def __init__(self, encode):
        self.read = read_with(encode)


class EncodedBy:
    """Stands for the static table."""

    def __init__(self, encode):
        self.encode = encode


def config(classifier, threshold="auto", deadline_ms=200):
    return parse(
        FILE.replace("THRESHOLD", threshold).replace("CLASSIFIER", classifier).replace("DEADLINE", str(deadline_ms))
    )


@pytest.fixture
async def classifiers(words):
    """With words for an encoder, so that nothing is loaded."""
    shared = Classifiers({"KEY": "s3cret"})
    shared._encoders._loaded[model.PackagedEncoder(), None] = Loaded(Spoken(words), None, Batcher(read_with(words)))
    yield shared
    await shared.close()


async def build(classifiers, classifier, threshold="auto", deadline_ms=200):
    read = config(classifier, threshold, deadline_ms)
    return await classifiers.build(read.intent, compile_snapshot(read, {"KEY": "s3cret"}))


async def test_an_embedding_classifier_gets_the_threshold(classifiers):
    built = await build(classifiers, "{type: embedding}", "0.4")

    assert isinstance(built, EmbeddingClassifier)
    assert built.threshold == 0.4


async def test_a_remote_classifier_gets_its_key_and_answers_before_the_deadline(classifiers):
    built = await build(classifiers, REMOTE)

    assert isinstance(built, RemoteRouterModel)
    assert built._headers == {"authorization": "Bearer s3cret"}
    assert built._timeout == pytest.approx(IN_TIME * 0.2)
    assert built._threshold == 0


async def test_connections_outlive_a_configuration(classifiers):
    first, second = await build(classifiers, REMOTE), await build(classifiers, REMOTE)

    assert first._connections is second._connections


async def test_a_missing_key_is_named_with_its_place():
    with pytest.raises(ConfigError) as caught:
        compile_snapshot(config(f"{{type: cascade, stages: [{{type: embedding}}, {REMOTE}]}}"), {})

    assert caught.value.problems == ['intent.classifier.stages[1].api_key: the environment variable "KEY" is not set']


@pytest.mark.slow
async def test_weights_are_loaded_once_and_forgotten_when_no_longer_named(classifiers, monkeypatch):
    loaded = []

    def load(source, device, dtype):
        loaded.append((source, device, dtype))
        return arch_model()

    monkeypatch.setattr(building, "load_model", load)
    for _ in range(2):
        assert isinstance(await build(classifiers, ARCH), ArchRouter)
    await build(classifiers, "{type: embedding}")
    await build(classifiers, ARCH)

    assert loaded == [("MODEL", "auto", "auto")] * 2


async def test_a_cascade_is_built_from_its_stages(classifiers):
    section = f"{{type: cascade, max_escalated: 0.25, stages: [{{type: embedding}}, {REMOTE}, {REMOTE}]}}"
    built = await build(classifiers, section)

    assert isinstance(built, Cascade)
    kinds = [type(stage.classifier) for stage in built._stages]
    assert kinds == [EmbeddingClassifier, RemoteRouterModel, RemoteRouterModel]
    assert [stage.budget.share for stage in built._stages] == [0.25] * 3
    assert [stage.margin for stage in built._stages[1:]] == [ROUTER_MODEL_MARGIN] * 2


async def test_a_static_stage_passes_on_all_it_is_not_sure_of(classifiers, words):
    classifiers._static = Immediate(EncodedBy(words)), Phrasebook(read_with(words))
    built = await build(
        classifiers, f"{{type: cascade, margin: 0.1, stages: [{{type: static}}, {{type: embedding}}, {REMOTE}]}}"
    )

    assert [type(stage.classifier._matcher) for stage in built._stages[:2]] == [Imitation, SimilarityMatcher]
    assert [stage.budget.share for stage in built._stages] == [1.0, 0.5, 0.5]


async def test_a_static_stage_that_no_examples_speak_for_is_not_asked(classifiers, words):
    classifiers._static = Immediate(EncodedBy(words)), Phrasebook(read_with(words))
    with capture_logs() as logs:
        built = await build(classifiers, "{type: cascade, stages: [{type: static}, {type: embedding}]}")

    assert [type(stage.classifier._matcher) for stage in built._stages] == [SimilarityMatcher]
    assert [(line["event"], line["stage"]) for line in logs] == [("stage_left_out", "static")]


async def test_what_neither_words_nor_sentences_settle_reaches_the_router_model(classifiers, words, monkeypatch):
    classifiers._static = Immediate(EncodedBy(words)), Phrasebook(read_with(words))
    monkeypatch.setattr(building, "load_model", lambda *_: arch_model())
    stages = f"[{{type: static}}, {{type: embedding}}, {ARCH}]"
    conversation = Conversation((Turn("user", "fix bugs"),))

    sure = await build(classifiers, f"{{type: cascade, margin: 0.0, stages: {stages}}}")
    unsure = await build(classifiers, f"{{type: cascade, margin: 1.0, stages: {stages}}}", deadline_ms=20_000)

    assert (await sure.classify(conversation)).classifier == "static"
    assert (await unsure.classify(conversation)).classifier == "arch_router"
    assert unsure.escalated == [1, 1, 1]


async def test_a_static_classifier_gets_the_threshold_and_signs_its_scores(classifiers, words):
    classifiers._static = Immediate(EncodedBy(words)), Phrasebook(read_with(words))
    built = await build(classifiers, "{type: static}", "0.4")

    assert built.threshold == 0.4
    assert built.recall(Conversation(())).classifier == "static"


async def test_margins_are_learned_beside_the_next_stage_where_it_was_asked_the_same(classifiers, words):
    classifiers._static = Immediate(EncodedBy(words)), Phrasebook(read_with(words))
    section = f"{{type: cascade, stages: [{{type: static}}, {{type: embedding}}, {REMOTE}]}}"
    read = config(section)
    spoken = {f"{verb}_it": [f"{verb} the {n}th" for n in range(40)] for verb in ("play", "stop")}
    routes = tuple(Route(name, "m", examples=tuple(examples)) for name, examples in spoken.items())
    snapshot = replace(compile_snapshot(read, {"KEY": "s3cret"}), routes={route.name: route for route in routes})
    static, embedding, _ = (await classifiers.build(read.intent, snapshot))._stages

    assert static.margin == margin_beside(static.classifier.judged, embedding.classifier.judged) < 1
    assert embedding.margin == learn_margin(embedding.classifier.judged) not in (MARGIN, ROUTER_MODEL_MARGIN)


async def test_the_encoder_is_asked_once_for_what_both_stages_compare_with(classifiers, words):
    classifiers._static = Immediate(EncodedBy(words)), Phrasebook(read_with(words))
    await build(classifiers, "{type: cascade, stages: [{type: static}, {type: embedding}]}")

    assert len(words.calls) == 2  # once for the encoder and once for the table


def test_one_thread_multiplies_matrices():
    Classifiers()

    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


async def test_others_read_the_sentences_alone(classifiers):
    sentences = await classifiers.embedder(model.PackagedEncoder())

    assert sentences.recall(["a"]) is None
    assert (await sentences.encode(["a"])).shape == (1, 64)
    assert sentences.recall(["a"]).shape == (1, 64)


async def test_a_margin_that_is_written_holds_for_every_stage(classifiers):
    section = f"{{type: cascade, margin: 0.07, stages: [{{type: embedding}}, {REMOTE}]}}"
    built = await build(classifiers, section)

    assert [stage.margin for stage in built._stages] == [0.07] * 2


async def test_a_stage_is_judged_beside_the_next_one_that_is_asked(classifiers, words):
    classifiers._static = Immediate(EncodedBy(words)), Phrasebook(read_with(words))
    stages = f"[{{type: embedding}}, {{type: static}}, {{type: embedding}}, {REMOTE}]"
    built = await build(classifiers, f"{{type: cascade, stages: {stages}}}")

    # Nothing is known of the first three beside each other; the last embedding has the usual one beside a router model.
    assert [type(stage.classifier) for stage in built._stages] == [EmbeddingClassifier, RemoteRouterModel]
    assert built._stages[0].margin == MARGIN
