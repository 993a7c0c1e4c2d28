"""Requests about answers that are kept, and what the exchange tells of answers that are to be."""

import json

import pytest

from factories import model
from playbook import ADA, BUFFERED, DUPLEX, STREAMED, Like, Playbook, Refused, asks, routed, sends
from wissel.core.access import ANONYMOUS
from wissel.core.affinity import MadeId
from wissel.core.decision import Kept, ListedAnswer, ListedAnswers
from wissel.core.request import Head
from wissel.core.snapshot import Credential
from wissel.extproc.events import (
    Decide,
    Identify,
    Made,
    Refuse,
    Reply,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Unmade,
)
from wissel.extproc.mutation import ImmediateResponse, Mutation

PATH = "/v1/responses"
MADE = MadeId("responses", "resp_Ab1")
KEPT = Kept(model("small"), ADA, "r1")
TOLD = {"route": "", "model": "small", "principal": "ada", "revision": "r1"}
SET = {"x-wissel-cluster": "small-cluster", "x-wissel-model": "small", "x-wissel-variant": "small"}


def about(path: str = f"{PATH}/resp_Ab1", method: str = "GET", protocol=BUFFERED, **more: str) -> Playbook:
    return Playbook(protocol) >> asks(path, method=method, end_of_stream=True, **more) << Identify >> ADA


def deciding(**fields) -> Like:
    return Like(Decide, subject=Like(Head, kind="kept", about=MADE, call_path=PATH, **fields), caller=ADA)


@pytest.mark.parametrize(
    ("method", "word"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"), ("GET", "/")]
)
def test_it_goes_to_the_model_that_made_it(method, word):
    assert (
        about(f"{PATH}/resp_Ab1{word}", method)
        << deciding()
        >> KEPT
        << Like(Reply, phase="request_headers", metadata=TOLD, skip_body=True)
    )


def test_the_upstream_sees_the_id_as_it_was_written_and_the_query():
    on = Mutation(SET, reroute=True)

    assert (
        about(f"{PATH}/resp_Ab1?stream=true&starting_after=3")
        << deciding()
        >> KEPT
        << Reply("request_headers", on, TOLD, skip_body=True)
    )


def test_the_upstream_sees_one_spelling_of_all_but_the_id():
    on = Mutation({**SET, ":path": f"{PATH}/resp_Ab1/input_items?limit=2"}, reroute=True)

    assert (
        about("/V1/Responses/resp%5FAb1/Input_Items/?limit=2")
        << deciding()
        >> KEPT
        << Reply("request_headers", on, TOLD, skip_body=True)
    )


def test_the_model_is_shown_its_credential_and_not_the_callers():
    secret = Kept(model("small", credential=Credential("secret", "s3cret")), ADA, "r1")
    on = Mutation({**SET, "authorization": "Bearer s3cret"}, reroute=True)

    assert (
        about(authorization="Bearer mine") << deciding() >> secret << Reply("request_headers", on, TOLD, skip_body=True)
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", f"{PATH}/resp_1"),
        ("POST", f"{PATH}/resp_1"),
        ("GET", f"{PATH}/resp_1/cancel"),
        ("GET", f"{PATH}/resp_1/input_items/more"),
        ("GET", f"{PATH}/a%20b"),
        ("GET", "/v1/messages/msg_1"),
        ("GET", "/v1/completions/cmpl-1"),
    ],
)
def test_what_servers_do_not_offer_is_not_asked_of_them(method, path):
    assert Playbook() >> asks(path, method=method, end_of_stream=True) << Identify(Like(Head, kind="other"))


@pytest.mark.parametrize("made", ["resp_1%2Fcancel", "..%2F..", "a/../b", "resp_1//cancel"])
def test_a_path_that_could_be_read_in_two_ways_is_refused(made):
    assert Playbook() >> asks(f"{PATH}/{made}", method="GET") << Refused(404, "path_not_found")


@pytest.mark.parametrize("query", ["model=large", "MODEL=large", "a=b&mod%65l=large"])
def test_a_query_that_names_a_model_is_refused(query):
    assert Playbook() >> asks(f"{PATH}/resp_1?{query}", method="GET") << Refused(400, "unreadable_request", "model")


@pytest.mark.parametrize("body", [{"model": "large"}, {"metadata": {}, "Model": "large"}])
def test_a_body_that_names_a_model_is_refused(body):
    assert (
        Playbook()
        >> asks("/v1/chat/completions/c-1", content_type="application/json")
        << Identify
        >> ADA
        << Reply("request_headers")
        >> sends(json.dumps(body).encode())
        << Refused(400, "unreadable_request", "model")
    )


def test_another_body_goes_on_as_it_came():
    body = json.dumps({"metadata": {"model": "of a car"}}).encode()

    assert (
        Playbook(DUPLEX)
        >> asks("/v1/chat/completions/c-1", content_type="application/json")
        << Identify
        >> ADA
        >> sends(body)
        << Like(Decide, subject=Like(Head, kind="kept", about=MadeId("chat", "c-1")))
        >> KEPT
        << Like(Reply, phase="request_headers")
        << Reply("request_body", chunk=body, end_of_stream=True)
    )


def test_its_answer_says_which_model_it_is_of():
    ours = Mutation({"x-wissel-request-id": "wr-1", "x-wissel-model": "small"})

    assert about() << Decide >> KEPT << Reply >> ResponseHeaders({":status": "200"}) << Reply("response_headers", ours)


# What is to be kept.

JSON, SSE = ({":status": "200", "content-type": kind} for kind in ("application/json", "text/event-stream"))
RESPONSE = {"id": "resp_Ab1", "object": "response", "status": "completed"}


def answered(headers: dict[str, str], *, thread: str | None = "t", path: str = PATH) -> Playbook:
    return (
        Playbook(STREAMED)
        >> asks(path)
        << Identify
        >> ANONYMOUS
        << Reply("request_headers")
        >> sends(b'{"model": "small", "input": "hello", "messages": []}')
        << Decide
        >> routed(thread=thread)
        << Reply
        >> ResponseHeaders(headers)
        << Reply
    )


def whole(data: dict[str, object]) -> ResponseBody:
    return ResponseBody(json.dumps(data).encode(), end_of_stream=True)


def event(data: dict[str, object]) -> ResponseBody:
    return ResponseBody(f"data: {json.dumps(data)}\n\n".encode(), end_of_stream=False)


def test_a_whole_answer_is_named_before_its_end_goes_on():
    assert answered(JSON) >> whole(RESPONSE) << Made(MADE) << Reply("response_body")


def test_an_answer_that_ends_with_trailers_is_named():
    begun = answered(JSON) >> ResponseBody(json.dumps(RESPONSE).encode(), end_of_stream=False) << Reply("response_body")

    assert begun >> ResponseTrailers() << Made(MADE) << Reply("response_trailers")


def test_a_stream_is_named_by_its_first_event_and_once():
    created = {"type": "response.created", "response": {**RESPONSE, "status": "in_progress"}}

    assert (
        answered(SSE)
        >> event(created)
        << Made(MADE)
        << Reply("response_body")
        >> event({"type": "response.completed", "response": RESPONSE})
        << Reply("response_body")
    )


def test_an_item_is_not_taken_for_the_answer():
    item = {"type": "response.output_item.added", "item": {"id": "msg_1"}, "id": "event_1"}

    assert answered(SSE) >> event(item) << Reply("response_body")


def test_a_stream_of_chunks_is_named_by_its_first():
    chunk = {"id": "chatcmpl-Ab3", "object": "chat.completion.chunk", "choices": []}

    assert (
        answered(SSE, path="/v1/chat/completions")
        >> event(chunk)
        << Made(MadeId("chat", "chatcmpl-Ab3"))
        << Reply("response_body")
    )


@pytest.mark.parametrize("answer", [{**RESPONSE, "id": 7}, {**RESPONSE, "id": "../models"}, {"object": "response"}])
def test_what_is_no_id_names_nothing(answer):
    assert answered(JSON) >> whole(answer) << Reply("response_body")


def test_an_answer_that_nobody_wants_kept_is_not_named():
    assert answered(JSON, thread=None) >> whole(RESPONSE) << Reply("response_body")


def test_an_error_is_no_answer():
    assert answered({**JSON, ":status": "500"}) >> whole(RESPONSE) << Reply("response_body")


# What is listed and deleted.


def test_a_list_is_answered_here():
    answers = ListedAnswers((ListedAnswer("c-1", "small", 1), ListedAnswer("c-2", "small", 2)), ADA, "r1")
    body = {
        "object": "list",
        "data": [{"id": "c-2", "object": "chat.completion", "created": 2, "model": "small", "choices": []}],
        "first_id": "c-2",
        "last_id": "c-2",
        "has_more": False,
    }
    sent = {"content-type": "application/json", "x-wissel-request-id": "wr-1"}

    assert (
        Playbook()
        >> asks("/v1/chat/completions?after=c-1&model=small", method="GET", end_of_stream=True)
        << Identify
        >> ADA
        << Like(Decide, subject=Like(Head, kind="kept", about=None, models=("small",)))
        >> answers
        << Like(Refuse, response=ImmediateResponse(200, json.dumps(body).encode(), sent, "wissel_answers"))
    )


def test_a_list_that_cannot_be_had_is_refused():
    assert Playbook() >> asks("/v1/chat/completions?metadata[a]=b", method="GET") << Refused(400, "unreadable_request")


def test_there_is_no_list_of_responses():
    assert Playbook() >> asks(PATH, method="GET", end_of_stream=True) << Identify(Like(Head, kind="other"))


@pytest.mark.parametrize(
    ("status", "gone"), [("200", [Unmade(MADE)]), ("204", [Unmade(MADE)]), ("404", []), ("503", [])]
)
def test_what_its_server_has_deleted_is_forgotten(status, gone):
    play = about(method="DELETE") << Decide >> KEPT << Reply >> ResponseHeaders({":status": status})
    for step in gone:
        play = play << step

    assert play << Like(Reply, phase="response_headers")


def test_to_compact_is_a_call_and_names_no_answer():
    compacted = {"id": "resp_c1", "object": "response.compaction", "output": []}

    assert answered(JSON, path=f"{PATH}/compact") >> whole(compacted) << Reply("response_body")


def test_a_server_below_a_base_path_is_asked_there():
    below = Kept(model("small", base_path="/openai/v1"), ADA, "r1")
    on = Mutation({**SET, ":path": "/openai/v1/responses/resp_Ab1?limit=2"}, reroute=True)

    assert (
        about(f"{PATH}/resp_Ab1?limit=2") << deciding() >> below << Reply("request_headers", on, TOLD, skip_body=True)
    )
