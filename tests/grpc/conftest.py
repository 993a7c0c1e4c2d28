"""The server is met on both event loops: tests run on asyncio's, what serves runs on uvloop's."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    return {**factories, "uvloop": uvloop.new_event_loop} if item.path.name == "test_server.py" else factories
