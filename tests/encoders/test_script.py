import pytest

from wissel.encoders.script import NONE, script_of, scripts_of, share_outside


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("hello", "latin"),
        ("привет", "cyrillic"),
        ("这份合同", "han"),
        ("この契約書", "kana"),
        ("계약서", "hangul"),
        ("नमस्ते", "devanagari"),
        ("123 !?", NONE),
        ("fix 这份合同 please, translate it all", "latin"),
    ],
)
def test_most_letters_say_which_script_it_is(text, script):
    assert script_of(text) == script


def test_letters_of_scripts_that_no_known_language_has_are_outside():
    assert share_outside("नमस्ते hello", scripts_of(["en"])) == pytest.approx(4 / 9)
    assert share_outside("你好 hello", scripts_of(["zh"])) == 0
