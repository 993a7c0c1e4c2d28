"""Real parts that tests of several folders share; where one is missing its tests skip visibly."""

import os

import pytest

from wissel.classifiers import export
from wissel.classifiers.encoder import Encoder
from wissel.errors import ModelError


def missing(error):
    """Skips, or fails where everything is required."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def exported():
    """The folder of the real export, made once in the user's own cache."""
    try:
        return export.ensure()
    except ModelError as error:
        missing(error)


@pytest.fixture(scope="session")
def encoder(exported):
    return Encoder.load(exported)


@pytest.fixture(scope="session")
def original():
    """The real weights in PyTorch."""
    try:
        return export.load_original(export.find_source())
    except ModelError as error:
        missing(error)
