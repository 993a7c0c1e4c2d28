import json

from tests.bench.unseen import EXAMPLES, read


def test_a_text_is_asked_once_under_the_first_of_its_routes(tmp_path):
    rows = [{"messages": [{"content": f"text {number % 12}"}], "routes": ["a", "b"]} for number in range(24)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))

    assert read(data) == {"a": [f"text {number}" for number in range(12)]}


def test_a_route_that_has_no_more_than_its_examples_is_left_out(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": f"{number}", "subject": "law"}) for number in range(EXAMPLES)))

    assert read(data) == {}
