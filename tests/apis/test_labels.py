from wissel.apis.labels import LONGEST, MOST, MOST_INSIDE, labels_in


def test_labels_are_the_texts_of_the_body_and_of_the_objects_in_it():
    members = {
        "model": "m",
        "user": "ada",
        "metadata": {"session_id": "s", "n": 7, "deep": {"x": "y"}},
        "n": 7,
        "empty": "",
    }

    assert labels_in(members) == {"user": "ada", "metadata.session_id": "s"}


def test_only_so_many_members_are_looked_at_and_only_short_texts_are_labels():
    many = {f"m{at}": "x" for at in range(MOST + 1)}

    assert (len(labels_in(many)), len(labels_in({"metadata": many}))) == (MOST, MOST_INSIDE)
    assert labels_in({"a": "x" * LONGEST, "b": "x" * (LONGEST + 1)}) == {"a": "x" * LONGEST}
