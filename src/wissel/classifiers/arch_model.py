# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A causal language model that chooses among known answers in one forward pass.

    prefix, once:      [chat head, instructions, routes] -> keys and values
    requests, packed:  [conversation, rest of prompt, trie | conversation, rest, trie | ...] -> odds of each branch

What every prompt begins with is computed once per set of routes. The rest of
each prompt, and behind it the nodes of the answers' trie, are laid end to end
into one row, in which a mask lets each token see the prefix and what is before
it in its own request only, and each node its own ancestors. So nothing is
padded, the prefix is not copied per request, and no answer token costs a step.

PyTorch and transformers are met here only; import this module when an operator
has configured it.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from wissel.classifiers.trie import PROMPT_END, Choice, Trie
from wissel.errors import ModelError

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True, slots=True)
class Prefix:
    """The tokens that prompts begin with, and what the model computed of them."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Keys and values of each layer: (1, key-value heads, len(tokens), head size), in the model's dtype."""

    def shared_with(self, tokens: Sequence[int]) -> int:
        """How many of its tokens `tokens` begins with; at least one is left over to be computed."""
        for position, (ours, theirs) in enumerate(zip(self.tokens, tokens[:-1], strict=False)):
            if ours != theirs:
                return position
        return min(len(self.tokens), len(tokens) - 1)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the model says of one prompt."""

    choice: Choice
    strayed: bool
    """Left free, greedy decoding would have written a token that begins no legal answer."""


class ArchModel:
    """The weights and their tokenizer; shared by every snapshot and safe to use from several threads."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """`model` is in eval mode, on its device and in its dtype. Raises ModelError for one that cannot be used."""
        if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
            raise ModelError("models with sliding-window attention cannot choose among answers in one pass")
        if not tokenizer.chat_template:
            raise ModelError("the tokenizer has no chat template; a router model's prompt goes through it")
        self._model = model
        self._tokenizer = tokenizer
        self._tokenizing = Lock()
        self._computing = Lock()

    @property
    def device(self) -> torch.device:
        return self._model.device

    @property
    def tokens_per_pass(self) -> int:
        """Uncached tokens up to which sharing a pass is worth it.

        A CPU is busy with a single request already; a second one in the pass only makes the first wait.
        """
        return 256 if self.device.type == "cpu" else 4096

    def encode_prompt(self, prompt: str) -> list[int]:
        """The tokens of `prompt` as the one user message of a chat, up to where the answer begins."""
        chat = cast(
            "str",
            self._tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            ),
        )
        return self.encode(chat)

    def encode(self, text: str) -> list[int]:
        """The tokens of `text` and no others."""
        with self._tokenizing:
            return self._tokenizer.encode(text, add_special_tokens=False)

    def read_prefix(self, tokens: Sequence[int]) -> Prefix:
        """The prefix `tokens`, computed; an empty one is allowed and saves nothing."""
        if not tokens:
            return Prefix((), ())
        with self._computing, torch.inference_mode():
            ids = torch.tensor([list(tokens)], device=self.device)
            cache = DynamicCache()
            self._body(input_ids=ids, past_key_values=cache, use_cache=True)
            layers = tuple((layer.keys, layer.values) for layer in cast("Any", cache).layers)
        return Prefix(tuple(tokens), layers)

    def choose(self, prompts: Sequence[Sequence[int]], prefix: Prefix, trie: Trie) -> list[Judgement]:
        """What the model answers each of `prompts`, in one forward pass, where only the answers of `trie` are legal."""
        try:
            free, odds = self._compute(_Pack.of(prompts, prefix, trie), prefix, trie)
        except RuntimeError as error:
            raise ModelError(f"the model failed on {len(prompts)} prompts: {error}") from error
        judgements: list[Judgement] = []
        for row in range(len(prompts)):
            choice = trie.choose([branch[row] for branch in odds])
            judgements.append(Judgement(choice, _strayed(trie, choice, free[row])))
        return judgements

    def _compute(self, pack: "_Pack", prefix: Prefix, trie: Trie) -> tuple[list[list[int]], list[list[list[float]]]]:
        """The token that the model would write, by prompt and node; the odds, by branch, prompt and token."""
        with self._computing, torch.inference_mode():
            hidden = self._body(
                input_ids=torch.tensor([pack.tokens], device=self.device),
                position_ids=torch.tensor([pack.positions], device=self.device),
                attention_mask=pack.mask(trie, self._model.dtype, self.device),
                past_key_values=_cache(prefix),
                use_cache=True,
            ).last_hidden_state
            # (prompts, 1 + nodes, vocabulary): after the prompt's end and after each node.
            logits = self._head(hidden[0, torch.tensor(pack.read_at, device=self.device)]).float()
            odds = [logits[:, branch.node + 1, list(branch.tokens)].softmax(-1).tolist() for branch in trie.branches]
            return logits.argmax(-1).tolist(), odds

    @property
    def _body(self) -> torch.nn.Module:
        return self._model.base_model

    @property
    def _head(self) -> torch.nn.Module:
        return cast("torch.nn.Module", self._model.get_output_embeddings())


@functools.cache
def load(source: str, device: Device = "auto", dtype: Dtype = "auto") -> ArchModel:
    """The model at a local path, or of that id on the hub; loaded once per process.

    A path never touches the network. Raises ModelError if it is missing, damaged or of a kind that cannot be used.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f'no CUDA device for the model "{source}"; device should be cpu, or auto to take what there is'
        )
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    local = Path(source).exists()
    if not local and Path(source).is_absolute():
        raise ModelError(f'no model at "{source}"')
    disable_progress_bar()  # a bar would stand among log lines
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
        model = AutoModelForCausalLM.from_pretrained(
            source, local_files_only=local, dtype=_dtype(where, dtype), attn_implementation="sdpa"
        )
        return ArchModel(cast("Any", model).to(where).eval(), tokenizer)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ModelError(f'cannot load the model "{source}": {error}') from error


def _dtype(where: str, dtype: Dtype) -> torch.dtype:
    if dtype == "auto":
        # Without the instructions for it, a CPU computes bfloat16 many times slower than float32.
        return torch.bfloat16 if where == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32  # noqa: SLF001
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[dtype]


def _cache(prefix: Prefix) -> DynamicCache:
    """A cache that begins with `prefix`; what is computed goes into the cache and never into the prefix."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(prefix.layers):
        cache.update(keys, values, index)
    return cache


def _strayed(trie: Trie, choice: Choice, free: Sequence[int]) -> bool:
    """Whether a token that the model would have liked best, on the way to its choice, begins no legal answer."""
    legal: dict[int, set[int]] = {}
    for node, parent in enumerate(trie.parents):
        legal.setdefault(parent, set()).add(trie.tokens[node])
    for branch in trie.branches:
        legal[branch.node] = set(branch.tokens)
    if not trie.branches:
        return False
    last = trie.branches[trie.paths[choice.greedy][-1][0]].node
    seen = {PROMPT_END, *(trie.lineages[last] if last != PROMPT_END else ())}
    return any(free[node + 1] not in legal[node] for node in seen)


@dataclass(frozen=True, slots=True)
class _Pack:
    """Several prompts and their tries, laid end to end."""

    tokens: list[int]
    positions: list[int]
    read_at: list[list[int]]
    """Of each prompt where its end and each node stand in the row."""
    shared: list[int]
    """Of each prompt how much of the prefix it begins with."""
    prefix: int

    @staticmethod
    def of(prompts: Sequence[Sequence[int]], prefix: Prefix, trie: Trie) -> "_Pack":
        pack = _Pack([], [], [], [], len(prefix.tokens))
        depths = trie.depths
        for prompt in prompts:
            shared = prefix.shared_with(prompt)
            pack.shared.append(shared)
            pack.tokens.extend(prompt[shared:])
            pack.positions.extend(range(shared, len(prompt)))
            end = len(pack.tokens)
            pack.tokens.extend(trie.tokens)
            pack.positions.extend(len(prompt) - 1 + depth for depth in depths)
            pack.read_at.append([end - 1, *range(end, end + len(depths))])
        return pack

    def mask(self, trie: Trie, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """(1, 1, tokens, prefix and tokens), to be added to the attention's scores: 0 where a token may look."""
        sees = torch.zeros(len(self.tokens), self.prefix + len(self.tokens), dtype=torch.bool)
        family = torch.zeros(len(trie.tokens), len(trie.tokens), dtype=torch.bool)
        for node, lineage in enumerate(trie.lineages):
            family[node, sorted(lineage)] = True
        start = 0
        for shared, spots in zip(self.shared, self.read_at, strict=True):
            end, stop = spots[0] + 1, spots[-1] + 1
            sees[start:stop, :shared] = True
            own = sees[:, self.prefix :]
            own[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
            own[end:stop, start:end] = True
            own[end:stop, end:stop] = family
            start = stop
        mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
        return mask[None, None].to(device)
