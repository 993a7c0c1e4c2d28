"""YAML into values with places."""

import pytest

from wissel.config.document import MAX_DEPTH, Mark, plain, read, render_path


def values(text: str) -> object:
    root, problems = read(text.encode())
    assert not problems
    assert root.node is not None
    return plain(root.node)


def problems_of(raw: str | bytes) -> list[str]:
    _, problems = read(raw.encode() if isinstance(raw, str) else raw)
    return [problem.render("f") for problem in problems]


@pytest.mark.parametrize("written", ["no", "on", "1.10", "017", "1:30", "0x1F", "1_000", "2024-01-01", "null", "NaN"])
def test_a_scalar_stays_as_it_was_written(written: str):
    assert values(f"a: {written}") == {"a": written}


def test_a_key_stays_as_it_was_written():
    assert values("on: x\n1: y") == {"on": "x", "1": "y"}


def test_a_value_knows_its_place_as_editors_count():
    root, _ = read(b"a:\n  - b\n  - c: d\n")

    assert root["a"][1]["c"].at == Mark(3, 8)


def test_a_place_where_nothing_stands_is_that_of_what_should_hold_it():
    root, _ = read(b"a:\n  b: c\n")

    assert root["a"]["x"]["y"].at == Mark(2, 3)


def test_a_byte_order_mark_is_no_text():
    root, problems = read(b"\xef\xbb\xbfa: b")

    assert (root["a"].text, problems) == ("b", [])


def test_a_duplicate_key_is_a_problem_that_names_both_lines():
    assert problems_of("a: 1\nb: 2\na: 3\n") == ['f:3:1: a: the key "a" is written twice, first in line 1']


def test_a_duplicate_key_is_found_at_any_depth():
    assert problems_of("a:\n  - {b: 1, b: 2}\n") == ['f:2:12: a[0].b: the key "b" is written twice, first in line 2']


def test_a_value_left_out_is_a_problem():
    assert problems_of("access:\nb: ~\n") == [
        "f:1:8: access: nothing is written here; give a value or leave the key out",
        "f:2:4: b: nothing is written here; give a value or leave the key out",
    ]


def test_quotes_make_an_empty_text():
    assert values("a: ''\nb: '~'") == {"a": "", "b": "~"}


def test_an_alias_stands_for_its_anchor():
    assert values("a: &x [1]\nb: *x") == {"a": ["1"], "b": ["1"]}


def test_a_merge_gives_what_the_mapping_does_not_say_itself():
    assert values("a: &a {p: 1, q: 1}\nb: {<<: *a, q: 2}") == {"a": {"p": "1", "q": "1"}, "b": {"p": "1", "q": "2"}}


def test_of_several_merges_the_first_counts():
    assert values("a: &a {p: 1}\nb: &b {p: 2, q: 2}\nc: {<<: [*a, *b]}") == {
        "a": {"p": "1"},
        "b": {"p": "2", "q": "2"},
        "c": {"p": "1", "q": "2"},
    }


def test_a_quoted_merge_key_is_a_key():
    assert values("'<<': x") == {"<<": "x"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("", "f:1:1: the file is empty; it should hold a mapping, with `models` at least"),
        ("# only words\n", "f:1:1: the file is empty; it should hold a mapping, with `models` at least"),
        ("a:\n\tb: c", "f:2:1: not YAML: the line is indented with a tab; use spaces"),
        (b"a: b\nc: \xffd", "f:2:4: not UTF-8: the byte 0xff"),
        ("a: é\nb: \x07", "f:2:4: the control character U+0007 is not text"),
        ("a: *x", 'f:1:4: no value before this is marked "&x"'),
        ("a: &x [*x]", 'f:1:8: "*x" stands inside the value that it names'),
        ("a: &x {<<: *x}", 'f:1:12: "*x" stands inside the value that it names'),
        ("a: 1\n---\nb: 2", "f:2:1: a second document; the file should hold one"),
        ("? [a, b]\n: c", "f:1:3: a key should be a word, and here is a list or mapping"),
        ("a: {<<: b}", 'f:1:5: a: "<<" should be given a mapping, or a list of them'),
        (
            "a: !!python/name:os.system x",
            'f:1:4: a: the tag "tag:yaml.org,2002:python/name:os.system" is not understood; leave it out',
        ),
        ("[" * 2000, f"f:1:34: nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(raw: str | bytes, said: str):
    assert problems_of(raw) == [said]


def test_broken_syntax_is_said_with_its_line():
    (problem,) = problems_of("a:\n  - b: c\n   d: e\n")

    assert problem.startswith("f:3:4: not YAML: ")


def test_aliases_that_multiply_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert problems_of("\n".join(lines)) == [
        "f:6:5: grows beyond 200000 values when its aliases are expanded",
    ]


def test_aliases_that_nest_are_refused():
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100)]

    (problem,) = problems_of("\n".join(lines))

    assert problem.endswith(f"grows beyond {MAX_DEPTH} levels when its aliases are expanded")


def test_a_huge_file_is_not_read():
    (problem,) = problems_of(b"#" * (5 << 20))

    assert problem == "f:1:1: the file has 5242880 bytes, and at most 4194304 are read"


def test_a_path_reads_as_the_documentation_writes_it():
    assert render_path(("routes", 2, "headers", "x-beta", "gpt-4.1")) == 'routes[2].headers.x-beta["gpt-4.1"]'
