# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateImportUsage=false
"""A causal language model that is asked who would win, and answers with one token.

RouteLLM (arXiv 2406.18665, section 4.1) adds label tokens to the vocabulary
and reads their probabilities after the prompt. Nothing is generated: the win
rate is exact, from one forward pass. Prompts of a batch are padded behind
their end, where a causal model does not look, so a prompt's win rate is the
same alone and in company.

torch and transformers are loaded when a grader is made, not before.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from wissel.errors import ModelError
from wissel.tiers.base import Battles, Prompts
from wissel.tiers.finetune import libraries, win_rates_of
from wissel.tiers.metrics import Floats

if TYPE_CHECKING:
    import torch

LABELS = ("[[strong]]", "[[tie]]", "[[weak]]")
"""Tokens that are added to the vocabulary, in the order of win, tie and loss."""

INSTRUCTION = (
    "Two assistants answer the question below, a strong and a weak one. "
    "Whose answer is better?\n\nQuestion:\n{prompt}\n\nBetter answer: "
)
MAX_TOKENS = 1024
"""Of the question; a longer one loses its end, never the instruction."""

RATE = 1e-5


class CausalGrader:
    """A causal model of transformers, whatever its architecture."""

    KIND: ClassVar[str] = "causal"
    NEEDS_VECTORS: ClassVar[bool] = False
    BATCH: ClassVar[int] = 8
    EPOCHS: ClassVar[int] = 1

    def __init__(self, folder: Path, *, rate: float = RATE) -> None:
        """Reads weights and tokenizer in the form of transformers; raises ModelError.

        Training changes all weights at `rate`, those of the labels among them.
        """
        torch, transformers = libraries()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True)
            self._model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ModelError(f'no causal model can be read from "{folder}": {error}') from error
        self._rate = rate
        if self._tokenizer.add_special_tokens({"additional_special_tokens": list(LABELS)}):
            rows = self._model.get_input_embeddings().num_embeddings
            if len(self._tokenizer) > rows:
                self._model.resize_token_embeddings(len(self._tokenizer))
        self._labels = torch.tensor(self._tokenizer.convert_tokens_to_ids(list(LABELS)))
        before, _, after = INSTRUCTION.partition("{prompt}")
        self._before: list[int] = self._tokenizer(before)["input_ids"]
        self._after: list[int] = self._tokenizer(after, add_special_tokens=False)["input_ids"]
        self._model.eval()

    def prepare(self, rest: Battles, held: Battles) -> None:
        """Nothing: the model reads the whole prompt."""

    def win_rates(self, prompts: Prompts) -> Floats:
        return win_rates_of(self, prompts.texts)

    def logits(self, texts: Sequence[str]) -> "torch.Tensor":
        """(n, 3): what the model says of each label as the next token."""
        torch, _ = libraries()
        asked = [self._tokens(text) for text in texts]
        longest = max(map(len, asked))
        ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in asked])
        ends = torch.tensor([len(tokens) for tokens in asked])
        mask = (torch.arange(longest)[None, :] < ends[:, None]).long()
        every = self._model(input_ids=ids, attention_mask=mask).logits
        last = every[torch.arange(len(asked)), ends - 1]
        return last[:, self._labels]

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self._model.parameters()), "lr": self._rate}]

    def set_training(self, training: bool) -> None:
        self._model.train(training)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, the tokenizer with its labels beside them."""
        self._model.save_pretrained(folder / "model")
        self._tokenizer.save_pretrained(folder / "model")

    @classmethod
    def load(cls, folder: Path) -> "CausalGrader":
        """What `save` wrote. Raises ModelError."""
        return cls(folder / "model")

    def _tokens(self, text: str) -> list[int]:
        inner: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*self._before, *inner[:MAX_TOKENS], *self._after]
