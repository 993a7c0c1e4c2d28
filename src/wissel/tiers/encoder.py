# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateImportUsage=false
"""A BERT-class classifier: the whole prompt is read with the one question in mind.

RouteLLM (arXiv 2406.18665, section 4.1) puts a linear layer on BERT's CLS
token and asks for one of three labels: the strong model wins, a tie, the weak
one wins. Here any encoder of transformers will do; its tokens are averaged, as
sentence encoders are trained to be read, and features of the text stand beside
them, for a prompt is cut where the encoder stops reading. The head is fitted
first, to the encoder as it is, and only then do both learn: a random head would
spoil what the encoder knows before it knew anything itself (LP-FT, Kumar et al.,
arXiv 2202.10054). The lower layers stay as they are: they know words, the upper
ones learn difficulty, and training takes minutes on one core.

torch and transformers are loaded when a grader is made, not before.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wissel.errors import ModelError
from wissel.tiers.base import Battles, Prompts
from wissel.tiers.features import NAMES, features
from wissel.tiers.finetune import cross_entropy, fast_products, libraries, win_rates_of
from wissel.tiers.metrics import Floats
from wissel.tiers.space import FEATURE_LIMIT, FEATURE_WEIGHT

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 96
TRAINED_LAYERS = 2
RATE = 3e-5
PENALTIES = (1e-2, 3e-3, 1e-3, 3e-4)
"""On the squares of the head's weights when it is fitted; the labels that are held out choose."""

_LAYER = re.compile(r"\blayers?\.(\d+)$")
"""The name of a layer, in BERT and its kin."""

_HEAD_FILE = "head.safetensors"
_MODEL_FOLDER = "encoder"


class EncoderGrader:
    """An encoder of transformers and a head of three labels."""

    KIND: ClassVar[str] = "encoder"
    NEEDS_VECTORS: ClassVar[bool] = False
    BATCH: ClassVar[int] = 32
    EPOCHS: ClassVar[int] = 1

    def __init__(self, folder: Path, *, trained_layers: int = TRAINED_LAYERS) -> None:
        """Reads weights and tokenizer in the form of transformers; raises ModelError.

        Training changes the upper `trained_layers` and the head only.
        """
        torch, transformers = libraries()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True)
            self._encoder = transformers.AutoModel.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ModelError(f'no encoder can be read from "{folder}": {error}') from error
        self._head = self._new_head()
        self._mean = torch.zeros(len(NAMES))
        self._deviation = torch.ones(len(NAMES))
        self._encoder.eval()
        layers = self._encoder.config.num_hidden_layers
        upper = {str(at) for at in range(max(0, layers - trained_layers), layers)}
        self._trained: list[Any] = [
            module
            for name, module in self._encoder.named_modules()
            if (found := _LAYER.search(name)) and found[1] in upper
        ]
        self._encoder.requires_grad_(False)
        for layer in self._trained:
            layer.requires_grad_(True)

    def prepare(self, rest: Battles, held: Battles) -> None:
        """The scale of the features, and a head for the encoder as it is."""
        torch, _ = libraries()
        seen = features(rest.prompts.texts)
        self._mean = torch.tensor(seen.mean(axis=0), dtype=torch.float32)
        self._deviation = torch.tensor(seen.std(axis=0) + 1e-6, dtype=torch.float32)
        inputs, checks = (self._read_all(battles.prompts.texts) for battles in (rest, held))
        best = float("inf")
        for penalty in PENALTIES:
            head = self._fitted_head(inputs, rest, penalty)
            with torch.no_grad():
                loss = float(cross_entropy(head(checks), held))
            if loss < best:
                best, self._head = loss, head

    def _read_all(self, texts: Sequence[str]) -> "torch.Tensor":
        torch, _ = libraries()
        order: list[int] = np.argsort([len(text) for text in texts], kind="stable").tolist()
        with torch.no_grad(), fast_products():
            batches = [order[at : at + self.BATCH] for at in range(0, len(order), self.BATCH)]
            found = torch.cat([self._read([texts[row] for row in rows]).float() for rows in batches])
        return found[torch.tensor(order).argsort()]

    def _fitted_head(self, inputs: "torch.Tensor", battles: Battles, penalty: float) -> "torch.nn.Linear":
        torch, _ = libraries()
        head = self._new_head()
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> "torch.Tensor":
            optimizer.zero_grad()
            found = cross_entropy(head(inputs), battles) + penalty / 2 * (head.weight**2).sum()
            found.backward()
            return found

        optimizer.step(loss)
        return head

    def _new_head(self) -> "torch.nn.Linear":
        torch, _ = libraries()
        head = torch.nn.Linear(self._encoder.config.hidden_size + len(NAMES), 3)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        return head

    def win_rates(self, prompts: Prompts) -> Floats:
        return win_rates_of(self, prompts.texts)

    def logits(self, texts: Sequence[str]) -> "torch.Tensor":
        """(n, 3): win, tie, loss."""
        return self._head(self._read(texts))

    def _read(self, texts: Sequence[str]) -> "torch.Tensor":
        """(n, hidden + 15): what the head sees."""
        torch, _ = libraries()
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        hidden = self._encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        pooled = torch.nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1))
        measured = (torch.tensor(features(texts), dtype=torch.float32) - self._mean) / self._deviation
        return torch.cat([pooled, FEATURE_WEIGHT * measured.clamp(-FEATURE_LIMIT, FEATURE_LIMIT)], dim=1)

    def groups(self) -> list[dict[str, Any]]:
        body = [each for each in self._encoder.parameters() if each.requires_grad]
        return [{"params": [*body, *self._head.parameters()], "lr": RATE}]

    def set_training(self, training: bool) -> None:
        # Dropout in layers that stay as they are teaches nothing, and costs more than their products.
        for layer in self._trained:
            layer.train(training)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, the tokenizer as transformers has it."""
        from safetensors.torch import save_file  # noqa: PLC0415 - with torch

        self._encoder.save_pretrained(folder / _MODEL_FOLDER)
        self._tokenizer.save_pretrained(folder / _MODEL_FOLDER)
        head = {f"head.{name}": tensor.contiguous() for name, tensor in self._head.state_dict().items()}
        save_file({**head, "mean": self._mean, "deviation": self._deviation}, folder / _HEAD_FILE)

    @classmethod
    def load(cls, folder: Path) -> "EncoderGrader":
        """What `save` wrote. Raises ModelError."""
        from safetensors.torch import load_file  # noqa: PLC0415 - with torch

        grader = cls(folder / _MODEL_FOLDER)
        try:
            tensors = load_file(folder / _HEAD_FILE)
            grader._head.load_state_dict({name: tensors[f"head.{name}"] for name in ("weight", "bias")})
            grader._mean, grader._deviation = tensors["mean"], tensors["deviation"]
        except (OSError, KeyError, RuntimeError) as error:
            raise ModelError(f'the head in "{folder}" cannot be read: {error}') from error
        return grader
