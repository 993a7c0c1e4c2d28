# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How fast Arch-Router answers, beside the model card's way of asking it.

    python -m tests.bench.arch --size 1.5b --routes 20

Speed depends on a model's shape and not on its weights, so the weights are
random, and the tokenizer is one trained on the prompt, which cuts it into about
as many tokens as the real one does. Both ways run warm, in turns, in one
process: `generate()` limited to exactly the tokens of the answer, and the
classifier's own pass. The classifier does not compute the tokens that all
prompts begin with, so it can at best be faster by (all tokens) / (uncached
tokens); `achieved` is the share of that which it reaches.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from tokenizers import Regex, Tokenizer, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE

from wissel.classifiers.arch_prompt import PROFILES
from wissel.classifiers.arch_router import ArchRouter
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from wissel.classifiers.arch_model import Judgement

# PyTorch and transformers take seconds to import: whoever only asks for the options is spared them.

Size = Literal["small", "1.5b"]

SIZES: Mapping[Size, Mapping[str, Any]] = {
    # Qwen2.5-1.5B's own.
    "1.5b": {
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "intermediate_size": 8960,
        "vocab_size": 151936,
    },
    "small": {
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 1024,
        "vocab_size": 8192,
    },
}
DOMAINS = ("programming", "travel", "banking", "medicine", "cooking")
ACTIONS = {
    "explain": "Explaining {} terms, background and theory to somebody who is new to it",
    "fix": "Finding out what went wrong with something in {} and how to put it right",
    "plan": "Planning the next steps in {} together with dates, costs and alternatives",
    "summarize": "Making long {} documents short without losing what matters in them",
}
CONVERSATION = Conversation(
    (
        Turn("user", "Write a function to visualize a dataframe"),
        Turn("assistant", "import seaborn as sns\n\ndef show(frame):\n    sns.pairplot(frame)"),
        Turn("user", "This doesn't work"),
    )
)
CHAT_TEMPLATE = (
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' -}}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured; times are the best of all rounds, which other work on the machine disturbs least, in ms."""

    size: Size
    device: str
    dtype: str
    threads: int
    routes: int
    prompt_tokens: int
    answer_tokens: int
    uncached_tokens: int
    """Of prompt and answer together."""
    generate_ms: float
    classifier_ms: float
    batch: int
    batched_ms: float
    """A request's share of a pass that `batch` requests share."""

    @property
    def token_ratio(self) -> float:
        """How many times fewer tokens the classifier computes."""
        return (self.prompt_tokens + self.answer_tokens) / self.uncached_tokens

    @property
    def speedup(self) -> float:
        return self.generate_ms / self.classifier_ms

    @property
    def achieved(self) -> float:
        return self.speedup / self.token_ratio


def routes_for(count: int) -> tuple[Route, ...]:
    """That many routes, described as operators do."""
    described = [
        Route(f"{domain}_{action}", "m", text.format(domain)) for action, text in ACTIONS.items() for domain in DOMAINS
    ]
    more = [Route(f"team_{index}", "m", f"Questions that team {index} answers") for index in range(count)]
    return tuple((described + more)[:count])


def stand_in_tokenizer(texts: Iterable[str], vocabulary: int = 4096) -> "PreTrainedTokenizerFast":
    """A byte-level BPE of at most `vocabulary` tokens that cuts words as Qwen2's does, trained on `texts`."""
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(BPE())
    cut = pre_tokenizers.Split(Regex(WORDS), "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=CHAT_TEMPLATE)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    return tokenizer


def measure(size: Size, routes: int, *, device: str, dtype: str, rounds: int, batch: int) -> Report:
    """Both ways in turns, `rounds` times after a warm-up."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from wissel.classifiers.arch_model import ArchModel

    described = routes_for(routes)
    prompt = PROFILES["arch_router"].prompt(described, CONVERSATION.turns)
    tokenizer = stand_in_tokenizer([prompt])
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):
        weights = Qwen2ForCausalLM(Qwen2Config(**SIZES[size], tie_word_embeddings=True)).eval()
    torch.set_default_dtype(torch.float32)
    model = ArchModel(weights, tokenizer)
    router = ArchRouter(described, model)
    tokens = model.encode_prompt(prompt)

    def classify(requests: int) -> "list[Judgement]":
        return model.choose([model.encode_prompt(prompt)] * requests, router.prefix, router.trie)

    answers = list(PROFILES["arch_router"].answers(described).values())
    answer = model.encode(answers[classify(1)[0].choice.greedy])

    def generate() -> None:
        ids = torch.tensor([model.encode_prompt(prompt)], device=device)
        limit = {"max_new_tokens": len(answer), "min_new_tokens": len(answer)}
        with torch.inference_mode():
            cast("Any", weights).generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, **limit
            )

    ways: list[Callable[[], object]] = [generate, lambda: classify(1), lambda: classify(batch)]
    for way in ways:
        way()
    times = [[_time(way, device) for way in ways] for _ in range(rounds)]
    generate_ms, classifier_ms, batch_ms = map(min, zip(*times, strict=True))
    everything = len(tokens) + len(answer)
    return Report(
        size=size,
        device=device if device == "cpu" else torch.cuda.get_device_name(),
        dtype=dtype,
        threads=torch.get_num_threads(),
        routes=routes,
        prompt_tokens=len(tokens),
        answer_tokens=len(answer),
        uncached_tokens=everything - router.prefix.shared_with(tokens),
        generate_ms=generate_ms,
        classifier_ms=classifier_ms,
        batch=batch,
        batched_ms=batch_ms / batch,
    )


def _time(way: Callable[[], object], device: str) -> float:
    """Milliseconds that `way` takes, the device's work included."""
    begin = time.perf_counter()
    way()
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return (time.perf_counter() - begin) * 1000


def main(
    size: Annotated[Size, typer.Option(help="1.5b is Arch-Router's own.")] = "1.5b",
    routes: Annotated[int, typer.Option(min=1, help="How many routes the prompt describes.")] = 20,
    device: Annotated[Literal["cpu", "cuda"], typer.Option()] = "cpu",
    dtype: Annotated[Literal["bfloat16", "float32"], typer.Option()] = "bfloat16",
    rounds: Annotated[int, typer.Option(min=1, help="Times that each way is measured.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Requests that share a pass.")] = 4,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measures Arch-Router's speed beside generate()'s."""
    report = measure(size, routes, device=device, dtype=dtype, rounds=rounds, batch=batch)
    figures = {
        **asdict(report),
        "token_ratio": report.token_ratio,
        "speedup": report.speedup,
        "achieved": report.achieved,
    }
    sys.stdout.write(
        json.dumps(figures) + "\n" if as_json else "".join(f"{k:>16}  {_show(v)}\n" for k, v in figures.items())
    )


def _show(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    typer.run(main)
