# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateImportUsage=false
"""Teaching a torch model to tell win, tie and loss: one loop for encoders and causal models.

AdamW with a linear warm-up and descent of the rate. Some labels are held out
and looked at a few times an epoch; the parameters of the best look are kept,
and training ends when several looks in a row were no better. Where the
processor multiplies in bfloat16 the products are computed so, the parameters
and their sums stay in 32 bits; serving computes in 32 bits everywhere, so that
all replicas agree.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from wissel.errors import ModelError
from wissel.tiers.base import Battles, Progress
from wissel.tiers.metrics import Floats

if TYPE_CHECKING:
    import torch

WIN, TIE, LOSS = range(3)
"""The labels, by their column."""

DECAY = 0.01
WARM_UP = 0.1
HELD_OUT = 0.1
LOOKS_PER_EPOCH = 2
PATIENCE = 4
"""Looks without a better validation loss, after which training ends."""


@dataclass(frozen=True)
class Schooling:
    """How to train."""

    seed: int = 0
    epochs: int | None = None
    """What the grader needs by itself if None."""
    limit_s: float = float("inf")
    """Training ends at the first look after so many seconds."""
    progress: Progress | None = None


class Trainee(Protocol):
    """What is trained."""

    BATCH: ClassVar[int]
    EPOCHS: ClassVar[int]

    def prepare(self, rest: Battles, held: Battles) -> None:
        """What is learned from `rest` at one glance, before the first step; `held` may choose how."""
        ...

    def logits(self, texts: Sequence[str]) -> "torch.Tensor":
        """(n, 3): win, tie, loss."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """The parameters that may change, with their rates, as torch's optimizers take them."""
        ...

    def set_training(self, training: bool) -> None:
        """Dropout on or off."""
        ...


T = TypeVar("T", bound=Trainee)


def finetuned(make: Callable[[], T], battles: Battles, plan: Schooling) -> T:
    """What `make` makes, trained on battles with the strong model as a; the same seed makes the same grader."""
    torch, _ = libraries()
    torch.manual_seed(plan.seed)
    trainee = make()
    order = np.random.default_rng(plan.seed).permutation(len(battles))
    held, rest = (battles.take(rows) for rows in np.split(order, [max(1, int(HELD_OUT * len(battles)))]))
    trainee.prepare(rest, held)
    _Training(trainee, rest, held, plan).run()
    return trainee


def win_rates_of(trainee: Trainee, texts: Sequence[str]) -> Floats:
    """(n,): P(win) + P(tie) / 2; texts of about one length are read together."""
    torch, _ = libraries()
    found = np.empty(len(texts))
    order: list[int] = np.argsort([len(text) for text in texts], kind="stable").tolist()
    with torch.inference_mode():
        for at in range(0, len(order), trainee.BATCH):
            rows = order[at : at + trainee.BATCH]
            shares = trainee.logits([texts[row] for row in rows]).double().softmax(dim=-1)
            found[rows] = (shares[:, WIN] + shares[:, TIE] / 2).numpy()
    return found


class _Training:
    """One run: AdamW, a linear warm-up and descent of the rate, the best look kept."""

    def __init__(self, trainee: Trainee, rest: Battles, held: Battles, plan: Schooling) -> None:
        torch, _ = libraries()
        self._trainee, self._rest, self._held = trainee, rest, held
        self._rng = np.random.default_rng(plan.seed)
        self._epochs = plan.epochs or trainee.EPOCHS
        self._until, self._progress = monotonic() + plan.limit_s, plan.progress
        groups = trainee.groups()
        self._parameters: list[Any] = [each for group in groups for each in group["params"]]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
        batches = -(-len(rest) // trainee.BATCH)
        self._steps = self._epochs * batches
        self._look_every = max(1, batches // LOOKS_PER_EPOCH)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._pace)
        self._best: tuple[float, list[Any]] = (float("inf"), [])
        self._since = 0
        """Looks since the best one."""

    def run(self) -> None:
        torch, _ = libraries()
        self._look(0)
        for step, rows in enumerate(self._batches(), start=1):
            self._trainee.set_training(True)
            loss = self._loss(self._rest.take(rows))
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
            self._optimizer.step()
            self._schedule.step()
            if (step % self._look_every == 0 or step == self._steps) and not self._look(step):
                break
        self._trainee.set_training(False)
        with torch.no_grad():
            for parameter, kept in zip(self._parameters, self._best[1], strict=True):
                parameter.copy_(kept)

    def _look(self, step: int) -> bool:
        """Whether to go on."""
        torch, _ = libraries()
        self._trainee.set_training(False)
        losses: list[float] = []
        with torch.inference_mode():
            for at in range(0, len(self._held), self._trainee.BATCH):
                rows = np.arange(at, min(at + self._trainee.BATCH, len(self._held)))
                losses.append(float(self._loss(self._held.take(rows))) * len(rows))
        loss = sum(losses) / max(1, len(self._held))
        if self._progress is not None:
            self._progress(f"step {step} of {self._steps}: validation loss {loss:.4f}")
        if loss < self._best[0] or not self._best[1]:
            self._best, self._since = (loss, [each.detach().clone() for each in self._parameters]), 0
        else:
            self._since += 1
        return monotonic() < self._until and self._since < PATIENCE

    def _pace(self, step: int) -> float:
        warm = max(1, int(WARM_UP * self._steps))
        return (step + 1) / warm if step < warm else max(0.0, (self._steps - step) / max(1, self._steps - warm))

    def _batches(self) -> Iterator[NDArray[np.intp]]:
        """Of all epochs, in random order, but prompts of about one length together: padding costs as much as text."""
        size = 16 * self._trainee.BATCH
        for _ in range(self._epochs):
            shuffled = self._rng.permutation(len(self._rest))
            groups = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
            batches = [batch for group in groups for batch in self._cut(group)]
            for at in self._rng.permutation(len(batches)):
                yield batches[at]

    def _cut(self, group: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        ordered = group[np.argsort([len(self._rest.prompts.texts[row]) for row in group])]
        return [ordered[at : at + self._trainee.BATCH] for at in range(0, len(ordered), self._trainee.BATCH)]

    def _loss(self, battles: Battles) -> "torch.Tensor":
        with fast_products():
            logits = self._trainee.logits(battles.prompts.texts)
        return cross_entropy(logits.float(), battles)


def fast_products() -> AbstractContextManager[None]:
    """Multiplies in bfloat16 where the processor does so faster."""
    torch, _ = libraries()
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu.get_capabilities().get("avx512_bf16", False))


def cross_entropy(logits: "torch.Tensor", battles: Battles) -> "torch.Tensor":
    """The weighted mean over the battles; logits are (n, 3)."""
    torch, _ = libraries()
    each = -(torch.tensor(label_shares(battles.outcomes)) * logits.log_softmax(dim=-1)).sum(dim=1)
    weights = torch.tensor(battles.weights)
    return (each * weights).sum() / weights.sum()


def label_shares(outcomes: Floats) -> NDArray[np.float64]:
    """(n,) -> (n, 3): how much of win, tie and loss there is in each; 1, 0.5 and 0 are the pure ones."""
    shares = np.zeros((len(outcomes), 3))
    shares[:, WIN] = np.maximum(0, 2 * outcomes - 1)
    shares[:, LOSS] = np.maximum(0, 1 - 2 * outcomes)
    shares[:, TIE] = 1 - shares[:, WIN] - shares[:, LOSS]
    return shares


def libraries():
    try:
        import torch  # noqa: PLC0415 - a gigabyte that only this grader needs
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(f'this grader needs {error.name}; install it with: pip install "wissel[torch]"') from error
    # Its bars tell of files that are there already; what takes long tells `progress`.
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers
