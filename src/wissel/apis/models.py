"""The list of models, as OpenAI's clients read it."""

import json
from typing import Final

MODELS_PATH: Final = "/v1/models"
"""Answered by wissel itself."""


def models_body(names: tuple[str, ...]) -> bytes:
    """The answer to `GET /v1/models`."""
    data = [_model(name) for name in names]
    return json.dumps({"object": "list", "data": data}).encode()


def model_body(name: str) -> bytes:
    """The answer to `GET /v1/models/NAME`."""
    return json.dumps(_model(name)).encode()


def _model(name: str) -> dict[str, object]:
    """One entry of the list; wissel knows no creation dates."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "wissel"}
