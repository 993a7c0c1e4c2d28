from hypothesis import given
from hypothesis import strategies as st

from wissel.encoders.windows import ASIDE, HEAD, MOST_ASIDES, SHORT, TAIL, windows_of

LOG = "\n".join(f"2026-01-01T00:00:{second:02} [error] worker {second} exited: 0x{second:04x}" for second in range(40))


def shown(text):
    return [text[begin:end] for begin, end in windows_of(text)]


def test_a_short_text_has_no_windows():
    assert windows_of("fix this error") == ()


def test_a_question_before_a_paste_is_a_window():
    assert shown(f"why does this fail?\n\n{LOG}")[0] == "why does this fail?"


def test_a_question_behind_a_paste_is_a_window():
    assert shown(f"{LOG}\n\nwhy does this fail?")[-1] == "why does this fail?"


def test_what_a_person_writes_between_two_pastes_is_a_window():
    assert shown(f"{LOG}\n\nwhy does this fail, please?\n\n{LOG}")[1:-1] == ["why does this fail, please?"]


def test_a_paste_between_two_others_is_none():
    assert len(shown(f"{LOG}\n\n{LOG}\n\n{LOG}")) == 2


def test_without_paragraphs_the_ends_are_windows_of_whole_words():
    head, tail = shown("first " + "middle words " * 100 + "last")

    assert head.split()[0] == "first"
    assert tail.split()[-1] == "last"
    assert {*head.split(), *tail.split()} == {"first", "middle", "words", "last"}


@given(st.text(max_size=3000))
def test_windows_are_few_and_small_and_lie_in_the_text(text):
    windows = windows_of(text)

    assert len(windows) <= 2 + MOST_ASIDES
    assert (not windows) == (len(text.encode("utf-8", "replace")) <= SHORT)
    for begin, end in windows:
        assert 0 <= begin <= end <= len(text)
        assert len(text[begin:end].encode("utf-8", "replace")) <= max(HEAD, TAIL, ASIDE) + 4
