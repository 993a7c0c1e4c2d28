"""wissel with MiniLM alone on a text's first 256 tokens, which the default encoder is measured against.

python -m tests.bench.minilm_processor serve -c CONFIG
"""

from collections.abc import Sequence

from wissel.cli import main
from wissel.encoders.base import TextReading
from wissel.encoders.export import packaged
from wissel.encoders.transformer import Transformer

TOKENS = 256


class FirstTokens:
    """Reads every text once, however long it is."""

    name = "minilm 256"
    languages: tuple[str, ...] = ("en",)

    def __init__(self, *, threads: int = 1) -> None:
        self._minilm = Transformer.load(packaged.PARTS["minilm"].folder(), threads=threads, tokens=TOKENS)
        self.dimensions = self._minilm.dimensions

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        return [self._minilm.read_windows(text, ()) for text in texts]


if __name__ == "__main__":
    packaged.load = lambda name, *, threads=1: FirstTokens(threads=threads)
    main()
