"""What we put together byte by byte against what protobuf's own objects make of the same answer."""

from typing import Any

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse
from hypothesis import given
from hypothesis import strategies as st

from wissel.extproc import wire
from wissel.extproc.events import Refuse, Reply
from wissel.extproc.mutation import ImmediateResponse, Mutation

texts = st.one_of(st.sampled_from(["", "model", "größer"]), st.text(st.characters(codec="utf-8"), max_size=200))
headers = st.dictionaries(st.sampled_from(["x-wissel-model", "content-length", ":path"]), texts)
bodies = st.one_of(st.none(), st.binary(max_size=300), st.sampled_from([0, 127, 128, 40_000]).map(bytes))
metadata = st.dictionaries(
    st.sampled_from(["route", "model", "score", "cost_usd"]), st.one_of(texts, st.floats(allow_nan=False)), min_size=1
)
mutations = st.builds(
    Mutation, headers, st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple), bodies, st.booleans()
)
phases = st.sampled_from(
    ["request_headers", "request_body", "request_trailers", "response_headers", "response_body", "response_trailers"]
)
replies = st.builds(
    Reply,
    phases,
    st.one_of(st.none(), mutations),
    st.one_of(st.none(), metadata),
    st.none(),
    st.just(value=False),
    st.booleans(),
    st.booleans(),
)
chunks = st.builds(Reply, st.just("request_body"), st.none(), st.none(), st.binary(max_size=300), st.booleans())
refusals = st.builds(
    Refuse, st.builds(ImmediateResponse, st.integers(200, 599), st.binary(max_size=300), headers, texts), metadata
)


def by_protobuf(step: Reply | Refuse) -> ProcessingResponse:
    response = ProcessingResponse()
    if isinstance(step, Refuse):
        immediate = response.immediate_response
        immediate.status.code = step.response.status
        immediate.body, immediate.details = step.response.body, step.response.details
        set_headers(immediate.headers, step.response.headers)
    else:
        build_reply(response, step)
    if step.metadata or isinstance(step, Refuse):
        fields = response.dynamic_metadata.fields["wissel"].struct_value.fields
        for name, value in (step.metadata or {}).items():
            if isinstance(value, str):
                fields[name].string_value = value
            else:
                fields[name].number_value = value
    return response


def build_reply(response: ProcessingResponse, step: Reply) -> None:
    target: Any = getattr(response, step.phase)
    target.SetInParent()
    if step.phase.endswith("trailers"):
        return
    if step.mutation:
        common = target.response
        set_headers(common.header_mutation, step.mutation.set_headers)
        common.header_mutation.remove_headers.extend(step.mutation.remove_headers)
        if step.mutation.body is not None:
            common.body_mutation.body = step.mutation.body
        common.clear_route_cache = step.mutation.reroute
    if step.chunk is not None:
        streamed = target.response.body_mutation.streamed_response
        streamed.body, streamed.end_of_stream = step.chunk, step.end_of_stream
    if step.skip_body:
        response.mode_override.request_body_mode = 0
    if step.stay:
        response.mode_override.response_trailer_mode = 1
    if step.read_body:
        response.mode_override.response_body_mode = 1


def set_headers(target: Any, headers: Any) -> None:
    for name, value in headers.items():
        option = target.set_headers.add()
        option.header.key, option.header.raw_value, option.append_action = name, value.encode(), 2


def canonical(message: ProcessingResponse) -> dict[str, Any]:
    """Field by field, where an empty message that only groups others does not matter."""

    def told(value: Any) -> Any:
        if not hasattr(value, "ListFields"):
            return value
        found = {}
        for each, inner in value.ListFields():
            if each.message_type is not None and each.message_type.GetOptions().map_entry:
                found[each.name] = {key: told(item) for key, item in inner.items()}
            elif hasattr(inner, "ListFields"):
                if (inside := told(inner)) or each.name not in {"response", "header_mutation", "headers"}:
                    found[each.name] = inside
            elif each.message_type is not None:
                found[each.name] = [told(item) for item in inner]
            else:
                found[each.name] = list(inner) if not isinstance(inner, str | bytes | int | float) else inner
        kind = value.WhichOneof("kind") if value.DESCRIPTOR.name == "Value" else None
        return found or ({kind: getattr(value, kind)} if kind else found)

    return told(message)


@given(st.one_of(replies.filter(lambda reply: not reply.phase.endswith("trailers")), chunks, refusals))
def test_an_answer_is_the_message_that_protobuf_would_build(step: Reply | Refuse):
    said = ProcessingResponse.FromString(b"".join(wire.encode(step)))

    assert canonical(said) == canonical(by_protobuf(step))


def test_an_answer_to_trailers_says_no_more_than_that():
    said = ProcessingResponse.FromString(b"".join(wire.encode(Reply("response_trailers", metadata={"cost_usd": 0.5}))))

    assert said.WhichOneof("response") == "response_trailers"
    assert said.dynamic_metadata.fields["wissel"].struct_value.fields["cost_usd"].number_value == 0.5


def test_header_bytes_that_are_no_text_come_back_as_they_were():
    step = Reply("request_headers", Mutation({"x-odd": b"\xff\x80".decode("utf-8", "surrogateescape")}))
    said = ProcessingResponse.FromString(b"".join(wire.encode(step)))

    assert said.request_headers.response.header_mutation.set_headers[0].header.raw_value == b"\xff\x80"
