"""From the `intent` section to a classifier that is ready to answer.

Models and connections are made once and outlive the configurations that use
them, so a reload costs what is new in it and nothing else: phrases to encode,
the beginning of a prompt to compute, weights that were not named before.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog
from threadpoolctl import threadpool_limits

from wissel.classifiers.arch_router import ArchRouter, load_model
from wissel.classifiers.base import Classifier
from wissel.classifiers.batching import Batcher
from wissel.classifiers.cascade import Cascade, CascadeStage, EscalationBudget
from wissel.classifiers.embedding import EmbeddingClassifier
from wissel.classifiers.encoder import DIMENSIONS, Encoder, Vectors
from wissel.classifiers.export import ensure
from wissel.classifiers.imitation import Imitation, Taught
from wissel.classifiers.margins import learn_margin, margin_beside
from wissel.classifiers.matching import Fitted, SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook, Phrases
from wissel.classifiers.problems import problems
from wissel.classifiers.remote import Connections, RemoteRouterModel
from wissel.classifiers.static import Immediate, StaticEncoder
from wissel.config import classifier_keys, model
from wissel.core.snapshot import Route, Snapshot
from wissel.errors import ConfigError

if TYPE_CHECKING:
    from wissel.classifiers.arch_model import ArchModel

log = structlog.get_logger(__name__)

IN_TIME = 0.9
"""Of the deadline: what answers by itself when this is over is never taken for late."""

ROUTER_MODEL_MARGIN = 0.5
"""How much likelier a router model's answer must be than the next one to need no dearer stage."""

_Weights = tuple[str, str, str]
"""Where a router model is, its device and its dtype."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What every classifier of one configuration is built with."""

    routes: tuple[Route, ...]
    threshold: float | Literal["auto"]
    seconds: float
    """That a classification may take."""
    keys: Mapping[model.Secret, str]

    @property
    def doubt(self) -> float:
        """The threshold of a router model, which says "other" itself."""
        return 0.0 if self.threshold == "auto" else self.threshold


class Classifiers:
    """What classifiers of one process share; where there are any, one thread multiplies numpy's matrices."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        # One per core finish a product of this size no sooner, and spin until the next: 1.5 of a short text's 3.6 ms.
        threadpool_limits(1, user_api="blas")
        self._environ = environ
        self._batcher: Batcher | None = None
        self._phrasebook: Phrasebook[Fitted] | None = None
        self._static: tuple[Immediate, Phrasebook[Taught]] | None = None
        self._models: dict[_Weights, ArchModel] = {}
        self._connections = Connections()

    async def embedder(self) -> "Sentences":
        """The encoder and its memory, for whoever else reads embeddings. Raises ModelError if it cannot be had."""
        return Sentences((await self._encoder())[0])

    async def build(self, intent: model.Intent, snapshot: Snapshot) -> Classifier:
        """A classifier for the snapshot's routes; only reads or exports a model the first time.

        Weights that this configuration does not name are forgotten. Raises ModelError if a model cannot be had, and
        ConfigError for a secret or for what never could be.
        """
        if wrong := problems(intent):
            raise ConfigError(wrong)
        plan = _Plan(
            tuple(snapshot.routes.values()),
            intent.threshold,
            IN_TIME * intent.deadline_ms / 1000,
            classifier_keys(intent, self._environ),
        )
        classifier = await self._build(intent.classifier, plan)
        named = {_weights(each) for _, each in intent.stages if isinstance(each, model.ArchRouterClassifier)}
        self._models = {weights: found for weights, found in self._models.items() if weights in named}
        return classifier

    async def close(self) -> None:
        """Stop the encoder's threads and close connections; nothing may be classified afterwards."""
        if self._batcher is not None:
            await self._batcher.close()
        await self._connections.close()

    async def _build(self, section: model.Classifier, plan: _Plan) -> Classifier:
        match section:
            case model.EmbeddingClassifier():
                return await self._embedding(plan)
            case model.StaticClassifier():
                return await self._static_embedding(plan)
            case model.ArchRouterClassifier():
                return await self._arch_router(section, plan)
            case model.RemoteClassifier():
                return self._remote(section, plan)
            case model.CascadeClassifier():
                return await self._cascade(section, plan)

    async def _encoder(self) -> tuple[Batcher, Phrasebook[Fitted]]:
        if self._batcher is None or self._phrasebook is None:
            encoder = await asyncio.to_thread(lambda: Encoder.load(ensure()))
            self._batcher, self._phrasebook = Batcher(encoder.read), Phrasebook(encoder.read)
        return self._batcher, self._phrasebook

    async def _embedding(self, plan: _Plan) -> EmbeddingClassifier:
        batcher, phrasebook = await self._encoder()
        matcher = await asyncio.to_thread(lambda: SimilarityMatcher(Phrases.of(plan.routes), phrasebook))
        return EmbeddingClassifier(batcher, matcher, threshold=plan.threshold)

    async def _static_embedding(self, plan: _Plan) -> EmbeddingClassifier:
        if self._static is None:
            encoder = await asyncio.to_thread(lambda: StaticEncoder.load(ensure()))
            self._static = Immediate(encoder), Phrasebook(encoder.encode)
        reader, phrasebook = self._static
        _, teachers = await self._encoder()
        matcher = await asyncio.to_thread(
            lambda: Imitation(phrasebook, SimilarityMatcher(Phrases.of(plan.routes), teachers))
        )
        return EmbeddingClassifier(reader, matcher, threshold=plan.threshold, name="static")

    async def _arch_router(self, section: model.ArchRouterClassifier, plan: _Plan) -> ArchRouter:
        weights = _weights(section)
        if weights not in self._models:
            self._models[weights] = await asyncio.to_thread(load_model, section.model, section.device, section.dtype)
        found = self._models[weights]
        return await asyncio.to_thread(
            lambda: ArchRouter(plan.routes, found, profile=section.profile, budget=section.budget, threshold=plan.doubt)
        )

    def _remote(self, section: model.RemoteClassifier, plan: _Plan) -> RemoteRouterModel:
        return RemoteRouterModel(
            plan.routes,
            section.endpoints,
            section.model,
            api_key=plan.keys[section.api_key] if section.api_key else "",
            profile=section.profile,
            guide=section.guide,
            budget=section.budget,
            threshold=plan.doubt,
            timeout=section.timeout_ms / 1000 if section.timeout_ms else plan.seconds,
            attempts=section.attempts,
            connections=self._connections,
        )

    async def _cascade(self, section: model.CascadeClassifier, plan: _Plan) -> Cascade:
        classifiers = [await self._build(each, plan) for each in section.stages]
        stages: list[CascadeStage] = []
        dearer: Classifier | None = None
        for each, classifier in zip(reversed(section.stages), reversed(classifiers), strict=True):
            margin = _margin(classifier, dearer, section.margin)
            if margin == float("inf"):
                log.warning("stage_left_out", stage=each.type, why="no examples, or too few, show where it is right")
                continue
            # A static stage is there to spare milliseconds, not to shield what comes after it.
            share = 1.0 if isinstance(each, model.StaticClassifier) else section.max_escalated
            stages.append(CascadeStage(classifier, margin, EscalationBudget(share)))
            dearer = classifier
        stages.reverse()
        return Cascade(stages, timeout=plan.seconds)


class Sentences:
    """What a batcher that also reads wordings says of sentences alone."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def recall(self, texts: Sequence[str]) -> Vectors | None:
        vectors = self._batcher.recall(texts)
        return None if vectors is None else vectors[:, :DIMENSIONS]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        return (await self._batcher.encode(texts))[:, :DIMENSIONS]


def _weights(section: model.ArchRouterClassifier) -> _Weights:
    return section.model, section.device, section.dtype


def _margin(stage: Classifier, dearer: Classifier | None, written: float | Literal["auto"]) -> float:
    if written != "auto":
        return written
    if not isinstance(stage, EmbeddingClassifier):
        return ROUTER_MODEL_MARGIN
    if isinstance(dearer, EmbeddingClassifier):
        return margin_beside(stage.judged, dearer.judged)
    return learn_margin(stage.judged)
