"""A router model of Qwen2's architecture that is small enough to train in a test."""

import functools
import random
from typing import TYPE_CHECKING

from wissel.classifiers.arch_prompt import PROFILES
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

    from wissel.classifiers.arch_model import ArchModel

ROUTES = (
    Route("code_generation", "m", "Generating new code snippets, functions, or boilerplate"),
    Route("code_review", "m", "Reading code and saying what is wrong with it"),
    Route("code_review_security", "m", "Reading code for security problems"),
    Route("bug_fixing", "m", "Identifying and fixing errors or bugs in the provided code"),
    Route("bug_report", "m", "Writing down an error for others"),
    Route("travel", "m", domain="travel", action="book"),
)
WORD_OF = {
    "code_generation": "write",
    "code_review": "review",
    "code_review_security": "secure",
    "bug_fixing": "fix",
    "bug_report": "report",
    "travel": "flight",
    "other": "thanks",
}
FILLER = ("please", "now", "the", "page", "again", "that", "for", "me")


def asking(*texts: str) -> Conversation:
    """A conversation whose user says `texts`, answered in between."""
    turns = [turn for text in texts for turn in (Turn("user", text), Turn("assistant", "done"))]
    return Conversation(tuple(turns[:-1]))


def sayings(count: int, seed: int) -> list[tuple[Conversation, str]]:
    """Conversations of one or two turns, with the route whose word the last turn carries."""
    choose = random.Random(seed)
    chats = [choose.choices(list(WORD_OF), k=choose.choice((1, 1, 2))) for _ in range(count)]
    return [(asking(*(_say(route, choose) for route in chat)), chat[-1]) for chat in chats]


def _say(route: str, choose: random.Random) -> str:
    first, second, last = choose.choices(FILLER, k=3)
    return f"{first} {second} {WORD_OF[route]} {last}"


@functools.cache
def tokenizer() -> "PreTrainedTokenizerFast":
    from tests.bench.arch import stand_in_tokenizer

    corpus = [
        profile.prompt(ROUTES, conversation.turns) + answer
        for profile in PROFILES.values()
        for conversation, _ in sayings(40, seed=1)
        for answer in profile.answers(ROUTES).values()
    ]
    return stand_in_tokenizer(corpus, vocabulary=1000)


def untrained(seed: int = 0, **config) -> "Qwen2ForCausalLM":
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    sizes = {
        "vocab_size": len(tokenizer()),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer().eos_token_id,
        "pad_token_id": tokenizer().pad_token_id,
        "max_position_embeddings": 4096,
        "initializer_range": 0.1,
    }
    return Qwen2ForCausalLM(Qwen2Config(**{**sizes, **config})).eval()


def arch_model(model: "Qwen2ForCausalLM | None" = None) -> "ArchModel":
    from wissel.classifiers.arch_model import ArchModel

    return ArchModel(model or untrained(), tokenizer())


@functools.cache
def reader() -> "ArchModel":
    """For what its tokenizer makes of texts: a model takes longer to make than to ask."""
    return arch_model()


def generate(model: "Qwen2ForCausalLM", prompt: str, *, max_new_tokens: int = 40) -> str:
    """As the model card does it."""
    chat = tokenizer().apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**chat, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer().decode(written[0, chat["input_ids"].shape[1] :], skip_special_tokens=True)


@functools.cache
def trained() -> "Qwen2ForCausalLM":
    """Taught, in seconds, to answer Arch-Router's prompt with the route whose word the user said."""
    import torch

    steps = 100
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model waits longer for its threads than it computes
    choose = random.Random(5)
    model = untrained(seed=1).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=steps)
    for _ in range(steps):
        today = [_lesson(asking(_say(route, choose)), route) for route in WORD_OF]
        width = max(len(tokens) for tokens, _ in today)
        ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in today])
        # Only the answers are learnt: (row, the position before, the token) of each of their tokens.
        taught = [
            (row, at - 1, token)
            for row, (tokens, start) in enumerate(today)
            for at, token in enumerate(tokens[start:], start)
        ]
        rows, before, targets = torch.tensor(taught).T
        logits = model.lm_head(model.model(input_ids=ids).last_hidden_state[rows, before])
        torch.nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    return model.eval()


def _lesson(conversation: Conversation, route: str) -> tuple[list[int], int]:
    """The tokens of prompt and answer, and where the answer begins."""
    profile = PROFILES["arch_router"]
    prompt = reader().encode_prompt(profile.prompt(ROUTES, conversation.turns))
    return prompt + tokenizer().encode(profile.answers(ROUTES)[route] + "<|im_end|>"), len(prompt)
