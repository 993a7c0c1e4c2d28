"""An operator's own encoder: its folder exported, and what it knows beside it."""

from pathlib import Path

from wissel.encoders.base import encode_with
from wissel.encoders.cache import make
from wissel.encoders.export import transformer
from wissel.encoders.knowledge import KNOWLEDGE_FILE, Knowledge
from wissel.encoders.transformer import ModelCard, Transformer
from wissel.errors import ConfigError


def export(
    source: Path, target: Path, *, pooling: transformer.Pooling | None = None, prefix: str | None = None
) -> ModelCard:
    """Fills the folder `target`, which is not there yet. Raises ModelError, and ConfigError where it is."""
    if target.exists():
        raise ConfigError([f'--out: "{target}" is there already; name another folder, or delete it'])
    recipe = transformer.Architecture.read(source, pooling=pooling, prefix=prefix)

    def fill(folder: Path) -> None:
        card = transformer.export(source, folder, recipe)
        encoder = Transformer.load(folder)
        Knowledge.learn(encode_with(encoder.read), languages=card.languages).save(folder / KNOWLEDGE_FILE)

    make(target, fill)
    return ModelCard.read(target)
