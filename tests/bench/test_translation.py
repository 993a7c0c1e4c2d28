from tests.bench.translation import measure


def test_every_pair_of_formats_is_measured():
    figures = measure(events=3, rounds=1, peer=None)

    assert [(each.spoken, each.wanted) for each in figures] == [
        ("chat", "messages"),
        ("chat", "responses"),
        ("messages", "chat"),
        ("messages", "responses"),
        ("responses", "chat"),
        ("responses", "messages"),
    ]
    assert all(each.event_us > 0 < each.answer_us for each in figures)
