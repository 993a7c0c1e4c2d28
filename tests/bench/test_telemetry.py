from tests.bench.telemetry import measure


async def test_the_same_served_streams_are_told_in_every_way():
    figures = await measure(requests=5, rounds=1)

    assert [each.way for each in figures] == [
        "nothing",
        "metrics",
        "metrics and 1% of traces (default)",
        "metrics and every trace",
    ]
