"""From the `intent` section to a classifier that is ready to answer.

Models are loaded once and outlive the configurations that use them, so a
reload costs the encoding of what is new in it and nothing else.
"""

import asyncio

from wissel.classifiers.base import Classifier
from wissel.classifiers.batching import Batcher
from wissel.classifiers.embedding import EmbeddingClassifier, Phrasebook
from wissel.classifiers.encoder import Encoder
from wissel.classifiers.export import ensure
from wissel.config.model import Intent
from wissel.core.snapshot import Snapshot


class Classifiers:
    """What classifiers of one process share."""

    def __init__(self) -> None:
        self._batcher: Batcher | None = None
        self._phrasebook: Phrasebook | None = None

    async def batcher(self) -> Batcher:
        """The encoder and its memory, for whoever else reads embeddings. Raises ModelError if it cannot be had."""
        if self._batcher is None or self._phrasebook is None:
            encoder = await asyncio.to_thread(lambda: Encoder.load(ensure()))
            self._batcher, self._phrasebook = Batcher(encoder.encode), Phrasebook(encoder.encode)
        return self._batcher

    async def build(self, intent: Intent, snapshot: Snapshot) -> Classifier:
        """A classifier for the snapshot's routes; only reads or exports a model the first time.

        Raises ModelError if the model cannot be had.
        """
        batcher, phrasebook = await self.batcher(), self._phrasebook
        assert phrasebook is not None
        routes = tuple(snapshot.routes.values())
        return await asyncio.to_thread(
            lambda: EmbeddingClassifier(batcher, phrasebook, routes, threshold=intent.threshold)
        )

    async def close(self) -> None:
        """Stop the encoder's threads; nothing may be classified afterwards."""
        if self._batcher is not None:
            await self._batcher.close()
