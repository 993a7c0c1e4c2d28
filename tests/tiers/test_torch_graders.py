"""The graders that bring torch, trained end to end on models of a few thousand weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tiers.world import EASY, HARD, battles, rows, write
from wissel.errors import ConfigError, ModelError
from wissel.tiers import artifact
from wissel.tiers.base import Prompts
from wissel.tiers.causal import LABELS, CausalGrader
from wissel.tiers.data import Source
from wissel.tiers.encoder import EncoderGrader
from wissel.tiers.finetune import Schooling, finetuned, label_shares
from wissel.tiers.metrics import call_performance
from wissel.tiers.train import Recipe, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

WORDS = (*HARD, *EASY, "please", "tell", "about", "number", "and", "thanks", *map(str, range(10)))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices of a few thousand numbers: several threads would only wait for each other."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = {token: at for at, token in enumerate(("[PAD]", "[UNK]", *WORDS))}
    raw = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture(scope="module")
def tiny_bert(vocabulary, tmp_path_factory) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    vocabulary.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_llama(vocabulary, tmp_path_factory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary.save_pretrained(folder)
    return folder


known, unseen = battles(300, seed=1), battles(200, seed=2)


def test_an_encoder_learns_which_topics_are_hard(tiny_bert, tmp_path):
    told: list[str] = []
    grader = finetuned(lambda: EncoderGrader(tiny_bert), known, Schooling(epochs=12, progress=told.append))
    artifact.save(tmp_path, grader, artifact.Card(kind="encoder", seed=0))
    again, _ = artifact.load(tmp_path)

    assert call_performance(grader.win_rates(unseen.prompts), unseen.ends).apgr > 0.65
    assert "validation loss" in told[-1]
    np.testing.assert_allclose(again.win_rates(unseen.prompts), grader.win_rates(unseen.prompts), atol=1e-6)
    assert not list(tmp_path.rglob("*.bin"))


def test_only_the_upper_layers_of_an_encoder_change(tiny_bert):
    import torch

    before = EncoderGrader(tiny_bert)._encoder.state_dict()
    after = finetuned(
        lambda: EncoderGrader(tiny_bert, trained_layers=1), known, Schooling(epochs=1)
    )._encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}

    assert changed
    assert all("layer.1." in name for name in changed)


def test_a_causal_model_learns_which_topics_are_hard(tiny_llama, tmp_path):
    grader = finetuned(lambda: CausalGrader(tiny_llama, rate=3e-3), known, Schooling(epochs=8))
    artifact.save(tmp_path, grader, artifact.Card(kind="causal", seed=0))
    again, _ = artifact.load(tmp_path)

    assert call_performance(grader.win_rates(unseen.prompts), unseen.ends).apgr > 0.65
    np.testing.assert_allclose(again.win_rates(unseen.prompts), grader.win_rates(unseen.prompts), atol=1e-6)
    assert not list(tmp_path.rglob("*.bin"))


def test_the_win_rate_is_exactly_that_of_the_next_token(tiny_llama):
    import torch

    """By hand: the whole text through the model, its last logits, the three labels."""
    grader = CausalGrader(tiny_llama)
    tokens = grader._tokens("please tell about proof")
    with torch.inference_mode():
        last = grader._model(input_ids=torch.tensor([tokens])).logits[0, -1].double()
    labels = torch.tensor([grader._tokenizer.convert_tokens_to_ids(label) for label in LABELS])
    shares = last[labels].exp() / last[labels].exp().sum()

    found = grader.win_rates(Prompts.without_vectors(["please tell about proof"]))
    assert found[0] == pytest.approx(float(shares[0] + shares[1] / 2), abs=1e-6)


def test_a_causal_win_rate_is_the_same_alone_and_in_company(tiny_llama):
    grader = CausalGrader(tiny_llama)
    texts = ["please tell about proof", "recipe", "please " * 40 + "kernel", "capital and weather"]
    together = grader.win_rates(Prompts.without_vectors(texts))
    alone = [grader.win_rates(Prompts.without_vectors([text]))[0] for text in texts]

    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_text_that_spells_a_label_is_still_graded(tiny_llama):
    assert 0 < CausalGrader(tiny_llama).win_rates(Prompts.without_vectors(["[[weak]] [[weak]]"]))[0] < 1


def test_labels_are_shared_between_win_tie_and_loss():
    found = label_shares(np.array([1.0, 0.75, 0.5, 0.0]))

    assert found.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]


def test_training_through_the_recipe_writes_a_card(tiny_llama, tmp_path):
    source = Source(write(tmp_path / "labels.jsonl", rows(120)))
    recipe = Recipe("causal", base=tiny_llama, epochs=1)
    card = train(recipe, [source], tmp_path / "out", encode=lambda _: pytest.fail("nothing is embedded"))

    assert card.kind == "causal"
    assert (tmp_path / "out/card.json").is_file()


def test_a_torch_grader_without_a_model_to_begin_with_is_refused(tmp_path):
    source = Source(write(tmp_path / "labels.jsonl", rows(120)))

    with pytest.raises(ConfigError, match="--base"):
        train(Recipe("encoder"), [source], tmp_path / "out", encode=lambda _: pytest.fail("nothing is embedded"))


@pytest.mark.parametrize("grader", [EncoderGrader, CausalGrader])
def test_a_folder_without_a_model_is_refused(grader, tmp_path):
    with pytest.raises(ModelError, match="can be read"):
        grader(tmp_path)
