import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.classifiers.trie import PROMPT_END, Branch, fold

END = 99
answers = st.lists(st.lists(st.integers(0, 3), max_size=5).map(lambda name: [*name, END]), min_size=1, unique_by=tuple)


def test_answers_that_part_at_once_need_no_node():
    trie = fold([[5, 1, 2], [4, 1, 2], [6]])

    assert (trie.tokens, trie.branches) == ((), (Branch(PROMPT_END, (4, 5, 6)),))


def test_what_all_answers_share_is_read_and_what_only_one_says_is_not():
    trie = fold([[7, 8, 1, 9, 9], [7, 8, 2, 3, 9], [7, 8, 2, 4, 9]])

    assert (trie.tokens, trie.parents, trie.depths) == ((7, 8, 2), (PROMPT_END, 0, 1), (1, 2, 3))


def test_a_node_sees_its_ancestors_and_no_cousins():
    trie = fold([[1, 3, 0], [1, 4, 0], [2, 3, 0], [2, 4, 0]])

    assert trie.tokens == (1, 2)
    assert trie.lineages == (frozenset({0}), frozenset({1}))


def test_a_single_answer_needs_no_model():
    trie = fold([[1, 2, 3]])

    assert (trie.tokens, trie.branches) == ((), ())
    assert trie.choose([]).probabilities == (1.0,)


@pytest.mark.parametrize("twins", [[[1, 2], [1, 2]], [[1], [1, 2]]])
def test_answers_that_cannot_be_told_apart_are_refused(twins):
    with pytest.raises(ValueError, match="two answers"):
        fold(twins)


def test_greedy_goes_to_the_best_branch_even_where_another_answer_is_likelier_as_a_whole():
    trie = fold([[1, 1], [1, 2], [2]])

    choice = trie.choose([(0.55, 0.45), (0.5, 0.5)])

    assert choice.greedy == 0
    assert choice.probabilities == pytest.approx((0.275, 0.275, 0.45))


@given(answers, st.randoms())
def test_the_probabilities_of_all_answers_add_up_to_one(some, random):
    trie = fold(some)
    weights = [[random.random() + 0.01 for _ in branch.tokens] for branch in trie.branches]

    choice = trie.choose([[weight / sum(row) for weight in row] for row in weights])

    assert math.isclose(sum(choice.probabilities), 1.0)


@given(answers)
def test_every_answer_is_reached_by_its_own_tokens(some):
    trie = fold(some)

    for answer, path in zip(some, trie.paths, strict=True):
        for branch, turn in path:
            node = trie.branches[branch].node
            depth = 0 if node == PROMPT_END else trie.depths[node]
            read = [trie.tokens[i] for i in sorted(trie.lineages[node])] if node != PROMPT_END else []
            assert [*read, trie.branches[branch].tokens[turn]] == answer[: depth + 1]


@given(answers)
def test_nothing_is_read_that_leads_to_no_branch(some):
    trie = fold(some)

    led = {node for branch in trie.branches if branch.node != PROMPT_END for node in trie.lineages[branch.node]}
    assert led == set(range(len(trie.tokens)))
