"""What a model wants of a call beside its name: of the caller's body, and of one that was written for another."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import model
from playbook import routed
from reading import read_body
from wissel.apis.body import Splice, spliced
from wissel.apis.chat import CHAT
from wissel.apis.embeddings import EMBEDDINGS
from wissel.apis.messages import MESSAGES
from wissel.apis.responses import RESPONSES
from wissel.core.plan import Plan
from wissel.core.request import Head
from wissel.core.snapshot import Model, Terms
from wissel.extproc.fitting import MOST_CARRIED, between, dropped_by, fitted
from wissel.extproc.onward import as_walked, read_call

BODY = b'{"top_p": 1, "temperature" : 2.50 ,"model": "auto", "seed":1,\n "user": "\xc3\xa9"}'


def wants(defaults: Mapping[str, str] | None = None, *drop: str) -> Model:
    return model("m", defaults=defaults or {}, drop_params=frozenset(drop))


def written(body: bytes, wanting: Model, api=CHAT, *, only_counts: bool = False) -> bytes:
    read = read_body(body)
    found = read.with_model("m", *fitted(wanting, api, read, only_counts=only_counts))
    assert isinstance(found, bytes)
    return found


def test_what_is_dropped_goes_and_every_other_byte_stays():
    found = written(BODY, wants(None, "temperature", "seed", "absent"))

    assert found == b'{"top_p": 1, "model": "m",\n "user": "\xc3\xa9"}'


def test_what_the_caller_left_out_is_put_in_behind_the_model():
    found = written(BODY, wants({"max_tokens": "4096", "seed": "7", "extra": '{"a": true}'}))

    assert found == BODY.replace(b'"auto"', b'"m", "max_tokens": 4096, "extra": {"a": true}')


@pytest.mark.parametrize(
    ("body", "api", "has"),
    [
        (b'{"model": "a"}', CHAT, True),
        (b'{"model": "a"}', MESSAGES, True),
        (b'{"model": "a", "max_completion_tokens": 5}', CHAT, False),
        (b'{"model": "a"}', RESPONSES, False),
        (b'{"model": "a"}', EMBEDDINGS, False),
    ],
)
def test_a_limit_is_put_in_only_where_the_api_knows_it_and_the_caller_gave_none(body: bytes, api, has: bool):
    assert ("max_tokens" in json.loads(written(body, wants({"max_tokens": "9"}), api))) is has


def test_who_only_counts_is_given_no_defaults():
    assert json.loads(written(b'{"model": "a"}', wants({"max_tokens": "9"}), MESSAGES, only_counts=True)) == {
        "model": "m"
    }


def test_what_is_lacking_is_told_by_model():
    models = (wants(None, "temperature", "seed", "absent"), model("other"))

    assert dropped_by(models, read_body(BODY)) == {"m": "temperature, seed"}


NAMES = ("a", "b", "c", "d")
members = st.permutations(["model", *NAMES]).flatmap(lambda names: st.integers(1, 5).map(lambda size: names[:size]))
wishes = st.builds(
    lambda drop, put: wants(dict.fromkeys(put - drop, '"é"'), *drop),
    st.frozensets(st.sampled_from(NAMES)),
    st.frozensets(st.sampled_from(NAMES)),
)


@given(members, st.sampled_from([", ", ",", " ,\n"]), wishes, wishes)
def test_a_body_for_one_model_becomes_the_one_for_another_as_if_it_had_been_written_from_the_callers(
    names, comma, first, second
):
    names = names if "model" in names else [*names, "model"]
    text = "{" + comma.join(f'"{name}": "{name}é"' for name in names) + "}"
    body = read_body(text.encode())
    renamed = Splice(*body.spans["model"], '"first of all"')
    sent, wanted = ((renamed, *fitted(each, CHAT, body, only_counts=False)) for each in (first, second))
    found = spliced(bytes(spliced(body.data, sent)), between(sent, wanted, body))

    assert json.loads(bytes(found)) == json.loads(bytes(spliced(body.data, wanted)))
    assert json.loads(bytes(found)).keys() == (set(names) - second.drop_params) | set(second.defaults)


@pytest.mark.parametrize(("size", "asked"), [(100, ["first", "second"]), (MOST_CARRIED, ["first"])])
def test_where_the_first_model_lacks_too_much_to_go_along_no_other_is_asked(size: int, asked: list[str]):
    body = read_body(b'{"model": "a", "user": "' + b"x" * size + b'"}')
    call = read_call(
        Head("llm", "POST", "/v1/chat/completions", {}), CHAT, body, Terms(), streams=False, unpacked=False
    )
    first, second = model("first", drop_params=frozenset({"user"})), model("second")

    walked = as_walked(routed(model=first, plan=Plan((first, second))), call, walks_plans=True)

    assert [each.name for each in walked.candidates] == asked
    assert as_walked(routed(model=second, plan=Plan((second, first))), call, walks_plans=True).candidates[1:] == (
        first,
    )
