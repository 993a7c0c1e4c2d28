import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from wissel.encoders.base import encode_with
from wissel.encoders.remote import RemoteEncoder
from wissel.errors import UpstreamError


class Embeddings:
    """A server of OpenAI's embeddings API that knows the lengths of texts only."""

    def __init__(self):
        self.asked = []
        self.status = 200
        self.drop = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((self.path, self.headers.get("authorization"), body))
                rows = [{"index": at, "embedding": [1.0, float(len(text))]} for at, text in enumerate(body["input"])]
                said = json.dumps({"data": rows[: len(rows) - outer.drop][::-1]}).encode()
                self.send_response(outer.status)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def server():
    found = Embeddings()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_vectors_come_in_the_order_of_the_texts_and_have_length_one(server):
    vectors = encode_with(RemoteEncoder(server.url, "e").read)(["a", "bbb"])

    np.testing.assert_allclose(vectors, [[0.5**0.5] * 2, np.array([1, 3]) / 10**0.5], atol=1e-6)


def test_a_call_names_the_model_and_carries_the_key(server):
    RemoteEncoder(server.url, "small", api_key="s3cret").read(["a"])

    assert server.asked == [("/v1/embeddings", "Bearer s3cret", {"model": "small", "input": ["a"]})]


def test_texts_are_asked_for_in_batches_and_once_each(server):
    RemoteEncoder(server.url, "e", batch=2).read(["a", "b", "a", "c"])

    assert [body["input"] for _, _, body in server.asked] == [["a", "b"], ["c"]]


def test_a_long_text_is_asked_for_with_its_windows(server):
    (reading,) = RemoteEncoder(server.url, "e").read(["what is this?\n\n" + "0x0000 " * 200])

    assert reading.texts[1] == "what is this?"
    assert len(reading.vectors) == len(reading.texts)


def test_fewer_vectors_than_texts_are_an_error(server):
    server.drop = 1

    with pytest.raises(UpstreamError, match="1 vectors for 2 texts"):
        RemoteEncoder(server.url, "e").read(["a", "b"])


def test_a_server_that_keeps_failing_is_left_alone(server):
    server.status = 500
    encoder = RemoteEncoder(server.url, "e")
    for _ in range(5):
        with pytest.raises(UpstreamError, match="status 500"):
            encoder.read(["a"])

    with pytest.raises(UpstreamError, match="left alone"):
        encoder.read(["a"])
    assert len(server.asked) == 5


def test_a_server_that_is_away_is_an_error_of_the_world():
    with pytest.raises(UpstreamError, match="failed"):
        RemoteEncoder("http://127.0.0.1:1/v1", "e", timeout=1).read(["a"])
