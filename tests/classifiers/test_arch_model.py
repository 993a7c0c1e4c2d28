import pytest

from classifiers.tiny_router_model import ROUTES, arch_model, reader, sayings, untrained
from wissel.classifiers.arch_prompt import PROFILES
from wissel.classifiers.arch_router import load_model
from wissel.classifiers.trie import fold
from wissel.core.request import Turn
from wissel.errors import ModelError

pytestmark = pytest.mark.slow

ARCH = PROFILES["arch_router"]


def prompts(count, profile=ARCH):
    return [reader().encode_prompt(profile.prompt(ROUTES, chat.turns)) for chat, _ in sayings(count, seed=5)]


def no_prefix():
    from wissel.classifiers.arch_model import Prefix

    return Prefix((), ())


def trie_of(profile=ARCH):
    return fold([reader().encode(answer) for answer in profile.answers(ROUTES).values()])


def step_by_step(model, prompt, trie, answers):
    """What each answer's probability is by the book: one forward pass per token, softmax over the legal ones."""
    import torch

    probabilities = []
    for answer in answers:
        probability, tokens = 1.0, list(prompt)
        for depth, token in enumerate(answer):
            legal = sorted({other[depth] for other in answers if other[:depth] == answer[:depth]})
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -1, legal]
            probability *= logits.softmax(-1)[legal.index(token)].item()
            tokens.append(token)
        probabilities.append(probability)
    return probabilities


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES.values())
def test_one_pass_gives_the_probabilities_that_one_pass_per_token_gives(profile):
    import torch

    weights = untrained()
    model = arch_model(weights)
    [prompt] = prompts(1, profile)
    answers = [model.encode(answer) for answer in profile.answers(ROUTES).values()]

    [judgement] = model.choose([prompt], no_prefix(), trie_of(profile))

    with torch.inference_mode():
        by_the_book = step_by_step(weights, prompt, trie_of(profile), answers)
    assert judgement.choice.probabilities == pytest.approx(by_the_book, rel=1e-3)


@pytest.mark.parametrize("length", [1, 40, 10_000])
def test_a_cached_prefix_changes_nothing(length):
    model = arch_model()
    [prompt] = prompts(1)
    prefix = model.read_prefix(prompt[:length])

    [cached] = model.choose([prompt], prefix, trie_of())

    [uncached] = model.choose([prompt], no_prefix(), trie_of())
    assert cached.choice.probabilities == pytest.approx(uncached.choice.probabilities, rel=1e-4)


def test_a_prompt_that_leaves_the_prefix_early_uses_what_it_shares():
    model = arch_model()
    [prompt] = prompts(1)
    other = [*prompt[:30], *prompt[40:]]
    prefix = model.read_prefix(prompt[:100])

    [cached] = model.choose([other], prefix, trie_of())

    [uncached] = model.choose([other], no_prefix(), trie_of())
    assert prefix.shared_with(other) == 30
    assert cached.choice.probabilities == pytest.approx(uncached.choice.probabilities, rel=1e-4)


def test_requests_that_share_a_pass_do_not_see_each_other():
    model = arch_model()
    several = prompts(5)
    prefix = model.read_prefix(several[0][:120])

    together = model.choose(several, prefix, trie_of())

    for prompt, judgement in zip(several, together, strict=True):
        [alone] = model.choose([prompt], prefix, trie_of())
        assert judgement.choice.probabilities == pytest.approx(alone.choice.probabilities, rel=1e-4)
    assert len({judgement.choice.probabilities for judgement in together}) == 5


def test_a_pass_leaves_the_prefix_as_it_was():
    model = arch_model()
    first, second = prompts(2)
    prefix = model.read_prefix(first[:120])
    before = model.choose([first], prefix, trie_of())

    model.choose([second], prefix, trie_of())

    assert model.choose([first], prefix, trie_of()) == before


@pytest.mark.parametrize("requests", [1, 4])
def test_all_answers_of_all_requests_cost_one_pass(requests):
    weights = untrained()
    model = arch_model(weights)
    several = prompts(requests)
    prefix = model.read_prefix(several[0][:120])
    fed = []
    weights.model.register_forward_pre_hook(lambda _, __, given: fed.append(given["input_ids"].shape), with_kwargs=True)

    model.choose(several, prefix, trie_of())

    uncached = sum(len(prompt) - prefix.shared_with(prompt) for prompt in several)
    assert fed == [(1, uncached + requests * len(trie_of().tokens))]


def test_a_model_that_would_rather_say_something_else_has_strayed():
    import torch

    weights = untrained()
    [prompt] = prompts(1)
    with torch.inference_mode():
        liked = weights(input_ids=torch.tensor([prompt])).logits[0, -1].argsort(descending=True).tolist()
    model = arch_model(weights)

    [free] = model.choose([prompt], no_prefix(), fold([[liked[0], 1], [liked[1], 1]]))
    [forced] = model.choose([prompt], no_prefix(), fold([[liked[1], 1], [liked[2], 1]]))

    assert (free.strayed, forced.strayed) == (False, True)
    assert (free.choice.greedy, forced.choice.greedy) == (0, 0)


def test_bfloat16_gives_about_the_same():
    [prompt] = prompts(1)
    exact = arch_model(untrained()).choose([prompt], no_prefix(), trie_of())[0].choice

    coarse = arch_model(untrained().bfloat16()).choose([prompt], no_prefix(), trie_of())[0].choice

    assert coarse.probabilities == pytest.approx(exact.probabilities, abs=0.05)


def test_a_model_is_loaded_from_its_directory_once(tmp_path):
    untrained().save_pretrained(tmp_path)
    arch_model()._tokenizer.save_pretrained(tmp_path)

    model = load_model(str(tmp_path), "cpu", "float32")

    prompt = ARCH.prompt(ROUTES, [Turn("user", "hi")])
    assert load_model(str(tmp_path), "cpu", "float32") is model
    assert model.encode_prompt(prompt) == arch_model().encode_prompt(prompt)
    assert model.choose(prompts(1), no_prefix(), trie_of()) == arch_model().choose(prompts(1), no_prefix(), trie_of())


def test_a_directory_without_a_model_is_the_worlds_fault(tmp_path):
    with pytest.raises(ModelError, match="cannot load the model"):
        load_model(str(tmp_path))


def test_a_path_that_does_not_exist_is_not_looked_for_elsewhere(tmp_path):
    with pytest.raises(ModelError, match="no model at"):
        load_model(str(tmp_path / "absent"))


def test_a_gpu_that_is_not_there_is_told(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ModelError, match=r"no CUDA device .* device should be cpu, or auto"):
        load_model(str(tmp_path), "cuda")


def test_sliding_windows_are_refused():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=1,
    )

    with pytest.raises(ModelError, match="sliding-window"):
        arch_model(Qwen2ForCausalLM(config))
