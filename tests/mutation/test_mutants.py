import pytest
from tests.mutation.__main__ import sample
from tests.mutation.mutants import mutants_of
from tests.mutation.trial import EVERYWHERE, NEIGHBOURS, stages


def changes(source: str) -> set[str]:
    return {mutant.after for mutant in mutants_of("src/wissel/core/some.py", source).mutants}


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("SECONDS: Final = 10.0", "SECONDS: Final = 11.0"),
        ('WORDS = {"messages": "chat"}', 'WORDS = {"messages": "XXchatXX"}'),
        ("class A:\n    @property\n    def b(self):\n        return 1", "return 2"),
        ("@dataclass\nclass A:\n    b: int = 1", "b: int = 2"),
        ("def f(a):\n    a.inc()", "pass"),
        ("def f(a):\n    raise ValueError", "pass"),
        ("def f(a):\n    if a > 1:\n        g()", "if not (a > 1):"),
        ("def f(a):\n    return f'of {a}'", "return f'XXof XX{a}'"),
    ],
)
def test_no_place_is_spared(source, after):
    assert after in changes(source)


def test_what_no_program_reads_is_counted_and_left_alone():
    found = mutants_of("src/wissel/core/some.py", 'Kind = Literal["a"]\nb: Literal["c"]\n"d"\n')

    assert (found.mutants, found.left_out) == ((), {"a type": 5, "a docstring": 2})


def test_the_rest_of_a_changed_module_stays_as_it_is():
    source = "def f(a):\n    match a:\n        case 1:\n            return 'é'\n        case _:\n            return 2\n"

    assert all(
        mutant.source.startswith("def f(a):\n    match a:\n        case ") for mutant in mutants_of("", source).mutants
    )


def test_a_mutant_is_known_whatever_stands_around_it():
    before, after = (mutants_of("", text).mutants for text in ("A = 1\n", "# new\n\nB = 5\nA = 1\n"))

    assert {it.id for it in before} < {it.id for it in after}


def test_no_two_mutants_are_one():
    mutants = mutants_of("", "def f():\n    return g(1, 1) or g(1, 1)\n").mutants

    assert len({it.id for it in mutants}) == len(mutants)


def test_a_new_line_moves_only_its_own_mutants():
    old = [mutants_of("a.py", "\n".join(f"A{i} = {i}" for i in range(100)))]
    new = [mutants_of("a.py", "\n".join(f"A{i} = {i}" for i in range(101)))]

    assert len({it.id for it in sample(old, 50, seed=1)} - {it.id for it in sample(new, 50, seed=1)}) <= 2


def test_a_modules_own_tests_are_asked_first():
    assert stages("src/wissel/core/rollouts/arms.py")[0] == ("tests/core/rollouts/test_arms.py",)
    assert stages("src/wissel/core/without_tests.py") == (EVERYWHERE, NEIGHBOURS)
