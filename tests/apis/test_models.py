import json

from wissel.apis.models import MODELS_PATH, model_body, models_body

AN_ENTRY = {"id": "a", "object": "model", "created": 0, "owned_by": "wissel"}


def test_a_list_is_as_openais_clients_read_it():
    assert json.loads(models_body(("a", "b"))) == {"object": "list", "data": [AN_ENTRY, {**AN_ENTRY, "id": "b"}]}


def test_one_model_is_an_entry_of_the_list():
    assert (json.loads(model_body("a")), MODELS_PATH) == (AN_ENTRY, "/v1/models")
