"""What every grader must do, and what each does in its own way."""

from dataclasses import replace

import numpy as np
import pytest

from tiers.world import EASY, HARD, battles, encode
from wissel.errors import ConfigError, ModelError
from wissel.tiers import artifact
from wissel.tiers.artifact import KINDS, Card, baseline
from wissel.tiers.base import Prompts, join
from wissel.tiers.factorization import FactorizationGrader
from wissel.tiers.features import NAMES, features
from wissel.tiers.intent import IntentGrader
from wissel.tiers.metrics import call_performance
from wissel.tiers.neighbours import NeighboursGrader, nearest_win_rates
from wissel.tiers.similarity import SimilarityGrader, weighted_win_rates

known, unseen = battles(400, seed=1), battles(300, seed=2)
LEARNED = (SimilarityGrader, FactorizationGrader, NeighboursGrader, IntentGrader)


@pytest.mark.parametrize("learned", LEARNED)
def test_a_grader_ranks_prompts_that_it_never_saw(learned):
    win_rates = learned.fit(known).win_rates(unseen.prompts)

    assert call_performance(win_rates, unseen.ends).apgr > 0.7
    assert ((win_rates >= 0) & (win_rates <= 1)).all()


@pytest.mark.parametrize("learned", LEARNED)
def test_a_grader_is_the_same_after_it_was_saved(learned, tmp_path):
    grader = learned.fit(known)
    artifact.save(tmp_path, grader, Card(kind=learned.KIND, seed=0, settings=grader.settings()))
    again, card = artifact.load(tmp_path)

    assert card.kind == learned.KIND
    np.testing.assert_array_equal(again.win_rates(unseen.prompts), grader.win_rates(unseen.prompts))


@pytest.mark.parametrize("learned", LEARNED)
def test_a_prompt_has_the_same_win_rate_alone_and_in_company(learned):
    grader = learned.fit(known)
    alone = grader.win_rates(unseen.prompts.take(np.array([5])))

    np.testing.assert_allclose(alone[0], grader.win_rates(unseen.prompts)[5], rtol=1e-5)


def test_a_battle_of_weight_two_counts_as_if_it_were_there_twice():
    cosines = np.array([[0.9, 0.3, 0.1]], np.float32)
    once, twice = np.array([[1.0, 1], [0, 1], [0.5, 1]], np.float32), np.array([[2.0, 2], [0, 1], [0.5, 1]], np.float32)
    repeated = np.repeat(cosines, [2, 1, 1], axis=1)

    assert weighted_win_rates(cosines.copy(), twice, 10.0) == pytest.approx(
        weighted_win_rates(repeated, np.repeat(once, [2, 1, 1], axis=0), 10.0)
    )


def test_similarity_is_the_optimum_of_the_weighted_bradley_terry_likelihood():
    """The closed form against Newton's method on equation 2's loss."""
    rng = np.random.default_rng(0)
    cosines = rng.random((1, 50)).astype(np.float32)
    outcomes = rng.choice([0.0, 0.5, 1.0], 50)
    weights = 10.0 ** (1 + cosines[0].astype(float) / cosines.max())
    strength = 0.0
    for _ in range(50):
        chance = 1 / (1 + np.exp(-strength))
        strength += (weights @ (outcomes - chance)) / (weights.sum() * chance * (1 - chance))
    columns = np.stack([outcomes, np.ones(50)], axis=1).astype(np.float32)

    assert weighted_win_rates(cosines.copy(), columns, 10.0)[0] == pytest.approx(1 / (1 + np.exp(-strength)), rel=1e-5)


def test_only_the_nearest_neighbours_speak():
    cosines = np.array([[0.9, 0.8, 0.1, 0.0]], np.float32)
    outcomes = np.array([1.0, 1.0, 0.0, 0.0], np.float32)

    assert nearest_win_rates(cosines, outcomes, np.ones(4, np.float32), 2)[0] == pytest.approx(1.0)


def test_factorization_learns_a_pair_from_battles_with_others():
    """strong and weak never meet; both met the same third model."""
    count = 500
    source = battles(count, seed=3)
    third = (source.outcomes * 0) + 0.6
    against_strong = replace(source, models=("strong", "third"), quality_b=third * source.quality_a)
    against_weak = replace(
        source, models=("weak", "third"), quality_a=source.quality_b, quality_b=third * source.quality_a
    )
    grader = FactorizationGrader.fit(join([against_strong, against_weak]))

    assert grader.models == ("strong", "third", "weak")
    assert call_performance(grader.win_rates(unseen.prompts), unseen.ends).apgr > 0.65


def test_factorization_that_never_saw_a_model_of_the_pair_says_so():
    with pytest.raises(ConfigError, match="no battle"):
        FactorizationGrader.fit(known, strong=("gpt-9",))


def test_factorization_tells_its_progress_and_is_the_same_for_the_same_seed():
    told: list[str] = []
    one, other = FactorizationGrader.fit(known, seed=5, progress=told.append), FactorizationGrader.fit(known, seed=5)

    assert "validation loss" in told[0]
    np.testing.assert_array_equal(one.win_rates(unseen.prompts), other.win_rates(unseen.prompts))


def test_intent_knows_the_hard_topics():
    grader = IntentGrader.fit(known)
    hard, easy = (
        grader.win_rates(Prompts.embed([f"please tell about {topic}" for topic in topics], encode))
        for topics in (HARD, EASY)
    )

    assert hard.min() > easy.max()


def test_intent_without_topics_says_what_is_missing():
    with pytest.raises(ConfigError, match='as "route" or "subject"'):
        IntentGrader.fit(replace(known, topics=("",) * len(known)))


def test_the_longer_prompt_has_the_higher_win_rate_by_length():
    rates = baseline("length").win_rates(Prompts.without_vectors(["short", "much longer than that"]))

    assert rates[0] < rates[1]


def test_random_is_uniform_and_the_same_for_the_same_prompt():
    prompts = Prompts.without_vectors([f"prompt {at}" for at in range(2000)])
    rates = baseline("random").win_rates(prompts)

    np.testing.assert_array_equal(rates, baseline("random").win_rates(prompts))
    assert np.quantile(rates, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.04)


@pytest.mark.parametrize(("kind", "rate"), [("always_strong", 1.0), ("always_weak", 0.0)])
def test_the_constant_graders_say_one_thing(kind, rate):
    assert baseline(kind).win_rates(unseen.prompts).tolist() == [rate] * len(unseen)


def test_every_kind_in_the_configuration_is_a_grader_here():
    from typing import get_args

    from wissel.config.model import Grader

    assert set(get_args(Grader.model_fields["type"].annotation)) == set(KINDS)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ModelError, match='no grader is called "best"'):
        baseline("best")


def test_a_folder_without_a_grader_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no grader is in"):
        artifact.load(tmp_path)


def test_a_damaged_grader_is_refused(tmp_path):
    artifact.save(tmp_path, IntentGrader.fit(known), Card(kind="intent", seed=0))
    (tmp_path / "grader.safetensors").write_bytes(b"no tensors")

    with pytest.raises(ModelError, match="cannot be read"):
        artifact.load(tmp_path)


def test_battles_are_turned_so_that_the_strong_side_comes_first():
    turned = replace(known, models=("weak", "strong"))

    assert turned.between().quality_b.tolist() == known.quality_a.tolist()


def test_battles_of_others_are_left_out_of_a_pair():
    assert len(known.between(("strong",), ("another",))) == 0


def test_features_are_finite_for_any_text():
    found = features(["", "\ud800", "9" * 400, "WHY? 1,000.50\n" * 50, "ł" * 10])

    assert found.shape == (5, len(NAMES))
    assert np.isfinite(found).all()


def test_text_is_cut_where_the_classifier_cuts_it():
    from wissel.core.request import READ_CHARS
    from wissel.encoders.base import MAX_CHARS

    assert READ_CHARS == MAX_CHARS
