import json

from wissel.cli._output import printable


def test_what_steers_a_terminal_is_shown_and_not_obeyed():
    assert printable("ada\x1b[2K\x9b1m\u202ebob\nnext") == "ada\\u001b[2K\\u009b1m\\u202ebob\nnext"


def test_json_stays_the_same_json():
    value = {"by": "a\u2028b\x7f\U000e0041"}

    assert json.loads(printable(json.dumps(value, ensure_ascii=False))) == value
