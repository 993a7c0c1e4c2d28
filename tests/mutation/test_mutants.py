import pytest
from tests.mutation.__main__ import sample
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.traced import IMPORT, Traced, statement
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


def test_the_type_of_a_cast_is_read_by_no_program():
    assert not any("XX" in change for change in changes('a = cast("list[str]", b)'))


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


ARMS = "src/wissel/core/rollouts/arms.py"
NEAR, FAR, COSTLY = (
    f"tests/core/{name}" for name in ("rollouts/test_arms.py::test_a", "test_x.py::test_b", "test_x.py::test_c")
)


def mutant(path: str, line: int) -> Mutant:
    return Mutant(path, line, "", "", "", "id")


def traced(line: int, *tests: str) -> Traced:
    return Traced({ARMS: {line: frozenset(tests)}}, {NEAR: 1.0, FAR: 2.0, COSTLY: 3.0})


def test_only_what_runs_a_line_is_asked_about_it_and_its_own_tests_first():
    assert stages(mutant(ARMS, 1), traced(1, COSTLY, FAR, NEAR)) == ((NEAR,), (FAR, COSTLY))
    assert stages(mutant(ARMS, 1), traced(1)) == ()


def test_everything_is_asked_about_what_importing_runs():
    own = ("tests/core/rollouts/test_arms.py",)

    assert stages(mutant(ARMS, 1), traced(1, IMPORT, NEAR)) == (own, EVERYWHERE, NEIGHBOURS)


@pytest.mark.parametrize(
    ("line", "span"), [(1, (1, 2)), (2, (1, 2)), (3, (3, 5)), (4, (3, 5)), (6, (6, 6)), (7, (7, 7)), (8, (8, 8))]
)
def test_a_line_stands_for_its_statement(line: int, span: tuple[int, int]):
    source = "def f(\n    a):\n    b = [\n        1,\n    ]\n    if a:\n        b = 2\n    return b\n"

    assert statement(source, line) == span
