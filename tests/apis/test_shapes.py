from wissel.apis.shapes import object_of, objects_of, words_in


def test_what_is_no_object_is_an_empty_one():
    assert (object_of({"a": 1}), object_of([1]), object_of(None)) == ({"a": 1}, {}, {})


def test_each_member_of_an_array_keeps_its_place():
    assert (objects_of([{"a": 1}, 2, "b", {}]), objects_of({"a": 1}), objects_of("x")) == (
        [{"a": 1}, {}, {}, {}],
        [],
        [],
    )


def test_words_are_counted_in_bytes_at_any_depth_and_beside_each_other():
    assert words_in(["ab", {"a": "cd", "b": ["é", {"c": "f"}]}, 7, None, "gh"]) == 9
    assert words_in([{"a": "x"}, {"a": "y"}, {"a": {"b": "z"}}]) == 3
