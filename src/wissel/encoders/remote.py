"""An encoder behind a server that speaks OpenAI's embeddings API.

    texts and their windows -> calls of so many texts each -> unit vectors

What it is called in: the batcher's threads, where waiting costs nobody else.
A server that fails is left alone for a while, and says so at once.
"""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from wissel.encoders.base import MAX_CHARS, TextReading, Vectors, unit
from wissel.encoders.onnx import readable
from wissel.encoders.windows import windows_of
from wissel.errors import UpstreamError
from wissel.runtime.breaker import Breaker

SAMPLE = "hello"
"""Asked for once, to know how long vectors are."""


class RemoteEncoder:
    """Safe to share between threads, each of which keeps a connection."""

    def __init__(self, endpoint: str, model: str, *, api_key: str = "", batch: int = 64, timeout: float = 5.0) -> None:
        """`timeout` are the seconds that one call of at most `batch` texts may take."""
        self.name = model
        self._url = urlsplit(f"{endpoint.rstrip('/')}/embeddings")
        self._key = api_key
        self._batch = batch
        self._timeout = timeout
        self._breaker = Breaker()
        self._dimensions: int | None = None
        self._lock = threading.Lock()
        self._local = threading.local()

    @property
    def dimensions(self) -> int:
        """Raises UpstreamError."""
        found = self._dimensions or len(self._embed([SAMPLE])[0])
        self._dimensions = found
        return found

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        """Raises UpstreamError if the server does not answer, or something else than vectors."""
        parts = [_parts_of(text) for text in texts]
        asked = list(dict.fromkeys(part for each in parts for part in each))
        vector_of: dict[str, Vectors] = {}
        for at in range(0, len(asked), self._batch):
            some = asked[at : at + self._batch]
            vector_of |= dict(zip(some, self._embed(some), strict=True))
        nothing = np.empty((1, 0), np.float32)
        return [
            TextReading(each, np.stack([vector_of[part] for part in each]), np.repeat(nothing, len(each), axis=0))
            for each in parts
        ]

    def _embed(self, texts: Sequence[str]) -> Vectors:
        with self._lock:
            if not self._breaker.allows(time.monotonic()):
                raise UpstreamError(f'the encoder at "{self._url.netloc}" is left alone after its failures')
            self._breaker.enter()
        try:
            vectors = self._ask(texts)
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            with self._lock:
                self._breaker.fail(time.monotonic())
            self._local.connection = None
            why = str(error) or type(error).__name__
            raise UpstreamError(f'the encoder at "{self._url.netloc}" failed: {why}') from error
        with self._lock:
            self._breaker.succeed()
        return vectors

    def _ask(self, texts: Sequence[str]) -> Vectors:
        """Raises what goes wrong: ValueError for an answer that has not as many vectors, all of one length."""
        body = json.dumps({"model": self.name, "input": [readable(text) for text in texts]}).encode()
        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        connection = self._connection()
        connection.request("POST", self._url.path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != http.client.OK:
            raise ValueError(f"status {answer.status}")
        rows = sorted(cast("list[dict[str, Any]]", json.loads(said)["data"]), key=lambda row: row["index"])
        vectors: NDArray[np.float32] = np.array([row["embedding"] for row in rows], np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise ValueError(f"{len(rows)} vectors for {len(texts)} texts")
        return unit(vectors)

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is None:
            host, port = self._url.hostname or "", self._url.port
            if self._url.scheme == "https":
                found = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout, context=ssl.create_default_context()
                )
            else:
                found = http.client.HTTPConnection(host, port, timeout=self._timeout)
            self._local.connection = found
        return found


def _parts_of(text: str) -> tuple[str, ...]:
    windows = windows_of(text)
    return (text[:MAX_CHARS], *(text[begin:end] for begin, end in windows))
