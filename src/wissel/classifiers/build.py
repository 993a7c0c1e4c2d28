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

import numpy as np
import structlog
from threadpoolctl import threadpool_limits

from wissel.classifiers.arch_router import ArchRouter, load_model
from wissel.classifiers.base import Classifier
from wissel.classifiers.cascade import Cascade, CascadeStage, EscalationBudget
from wissel.classifiers.embedding import EmbeddingClassifier
from wissel.classifiers.encoders import STRONG, Encoders, Loaded, ensure
from wissel.classifiers.imitation import Imitation, Taught
from wissel.classifiers.margins import learn_margin, margin_beside, margin_of_share
from wissel.classifiers.matching import Fitted, SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook, Phrases
from wissel.classifiers.problems import problems
from wissel.classifiers.remote import Connections, RemoteRouterModel
from wissel.config import classifier_keys, model
from wissel.core.snapshot import Route, Snapshot
from wissel.encoders.base import Encode, Vectors, encode_with, read_with
from wissel.encoders.batching import Batcher
from wissel.encoders.export.packaged import PARTS
from wissel.encoders.static import Immediate, StaticEncoder
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
    encoder: model.Encoder
    read: int
    """Tokens of a conversation."""

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
        self._encoders = Encoders()
        self._phrasebooks: dict[str, tuple[Loaded, Phrasebook[Fitted]]] = {}
        self._static: tuple[Immediate, Phrasebook[Taught]] | None = None
        self._models: dict[_Weights, ArchModel] = {}
        self._connections = Connections()

    async def embedder(self, encoder: model.Encoder) -> "Sentences":
        """The encoder and its memory, for whoever else reads embeddings. Raises ModelError if it cannot be had."""
        return Sentences((await self._encoders.get(encoder)).batcher)

    async def encode(self, encoder: model.Encoder) -> Encode:
        """What turns whole texts into vectors, and blocks. Raises ModelError if it cannot be had."""
        return encode_with((await self._encoders.get(encoder)).encoder.read)

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
            intent.encoder,
            intent.read,
        )
        classifier = await self._build(intent.classifier, plan)
        named = {_weights(each) for _, each in intent.stages if isinstance(each, model.ArchRouterClassifier)}
        self._models = {weights: found for weights, found in self._models.items() if weights in named}
        await self._encoders.keep(intent.encoder)
        return classifier

    async def close(self) -> None:
        """Stop the encoder's threads and close connections; nothing may be classified afterwards."""
        await self._encoders.close()
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

    async def _known(self, plan: _Plan, name: str | None = None) -> tuple[Loaded, Phrasebook[Fitted]]:
        """The plan's encoder, or the packaged one called `name`, and the phrases that it has read."""
        loaded = await self._encoders.get(plan.encoder, name, keys=plan.keys)
        known = self._phrasebooks.get(name or "")
        if known is None or known[0] is not loaded:
            known = self._phrasebooks[name or ""] = loaded, Phrasebook(loaded.encoder.read)
        return known

    async def _embedding(self, plan: _Plan) -> Classifier:
        first = await self._by_encoder(plan)
        if not isinstance(plan.encoder, model.PackagedEncoder) or plan.encoder.type != STRONG:
            return first
        strong = await self._by_encoder(plan, STRONG)
        share = plan.encoder.max_escalated
        margin = margin_of_share(first.judged, share)
        stages = (CascadeStage(first, margin, EscalationBudget(share)), CascadeStage(strong, 0.0))
        return Cascade(stages, timeout=plan.seconds)

    async def _by_encoder(self, plan: _Plan, name: str | None = None) -> EmbeddingClassifier:
        loaded, phrasebook = await self._known(plan, name)
        matcher = await asyncio.to_thread(lambda: SimilarityMatcher(Phrases.of(plan.routes), phrasebook))
        return EmbeddingClassifier(
            loaded.batcher,
            matcher,
            threshold=plan.threshold,
            knowledge=loaded.knowledge,
            budget=plan.read,
            name=name or "embedding",
        )

    async def _static_embedding(self, plan: _Plan) -> EmbeddingClassifier:
        _, teachers = await self._known(plan)
        if self._static is None:
            encoder = await asyncio.to_thread(_load_static)
            self._static = Immediate(encoder), Phrasebook(read_with(encoder.encode))
        reader, phrasebook = self._static
        matcher = await asyncio.to_thread(
            lambda: Imitation(phrasebook, SimilarityMatcher(Phrases.of(plan.routes), teachers))
        )
        return EmbeddingClassifier(reader, matcher, threshold=plan.threshold, budget=plan.read, name="static")

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
                log.warning("stage_left_out", stage=each.type, why="too few examples show where it is right")
                continue
            # A static stage is there to spare milliseconds, not to shield what comes after it.
            share = 1.0 if isinstance(each, model.StaticClassifier) else section.max_escalated
            stages.append(CascadeStage(classifier, margin, EscalationBudget(share)))
            dearer = classifier
        stages.reverse()
        return Cascade(stages, timeout=plan.seconds)


class Sentences:
    """What a batcher says of texts as wholes."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def recall(self, texts: Sequence[str]) -> Vectors | None:
        readings = self._batcher.recall(texts)
        return None if readings is None else np.stack([each.vectors[0] for each in readings])

    async def encode(self, texts: Sequence[str]) -> Vectors:
        return np.stack([each.vectors[0] for each in await self._batcher.read(texts)])


def _load_static() -> StaticEncoder:
    ensure("minilm")
    return StaticEncoder.load(PARTS["minilm"].folder())


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
