"""Both engines of the bench do the same work: what a client makes of their answers is equal."""

from collections import Counter

import h2.events
import pytest
from h2.connection import H2Connection
from tests.bench.http2 import ASKED, ENGINES, Figure, measure, reads, serve


def understood(said: list[bytes], streams: int) -> Counter[tuple[object, ...]]:
    """What h2's client hears, stream by stream, once it has opened them itself."""
    client = H2Connection()
    client.initiate_connection()
    # The settings of the server come first, and then the client may open as many streams as there are.
    events = list(client.receive_data(said[0]))
    for number in range(streams):
        client.send_headers(2 * number + 1, ASKED)
    heard: Counter[tuple[object, ...]] = Counter()
    for event in (*events, *(each for data in said[1:] for each in client.receive_data(data))):
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                heard[event.stream_id, type(event).__name__, tuple(event.headers)] += 1
            case h2.events.DataReceived():
                heard[event.stream_id, "data"] += len(event.data)
            case h2.events.StreamEnded():
                heard[event.stream_id, "ended"] += 1
    return heard


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("engine", sorted(ENGINES.keys() - {"our own"}))
def test_a_client_hears_the_same_of_both(engine: str, at_once: int):
    sent = reads(8, at_once=at_once, body_bytes=512)
    _, ours = serve(ENGINES["our own"], sent, body_bytes=512)
    _, theirs = serve(ENGINES[engine], sent, body_bytes=512)

    assert understood(theirs, 8) == understood(ours, 8) != Counter()


def test_each_engine_is_measured_under_each_load():
    figures = measure(exchanges=2, rounds=2)

    assert len(figures) == 9
    assert {each.ratio for each in figures if each.engine == "our own"} == {1.0}
    assert all(isinstance(each, Figure) and each.exchange_us > 0 for each in figures)
