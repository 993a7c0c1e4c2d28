"""A processor of thirty lines on grpc.aio: what any server behind the bootstrap may do, without wissel's own."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as service
from google.protobuf.json_format import ParseDict
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from wissel.core.names import CLUSTER_HEADER, SERVICE


@dataclass
class Processor:
    """Sends every request to `cluster` as `model`, unless `misbehave` says otherwise."""

    cluster: str
    model: str = "the-model-that-serves"
    misbehave: str = ""
    """`hang up`, `unavailable`, `late`, `refuse`, `forbidden mutation` or nothing."""
    response_mode: dict[str, str] = field(default_factory=dict)
    """A `mode_override` for the answer to the response's headers."""
    request_mode: dict[str, str] = field(default_factory=dict)
    """A `mode_override` for the answer to the request's headers, which then decides."""
    seen: list[pb.ProcessingRequest] = field(default_factory=list)
    address: str = ""

    async def Process(  # noqa: N802  # gRPC's name
        self, messages: AsyncIterator[pb.ProcessingRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ProcessingResponse]:
        if self.misbehave == "unavailable":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        async for message in messages:
            self.seen.append(message)
            if self.misbehave == "hang up":
                return
            if self.misbehave == "late":
                await asyncio.sleep(30)
            yield ParseDict(self.answer(message), pb.ProcessingResponse())

    def answer(self, message: pb.ProcessingRequest) -> dict[str, Any]:
        match message.WhichOneof("request"):
            case "request_headers" if self.misbehave:
                return misbehaviours[self.misbehave]
            case "request_headers" if message.request_headers.end_of_stream or self.request_mode:
                override = {"mode_override": self.request_mode} if self.request_mode else {}
                return {"request_headers": {"response": self.decision(None)}, **override}
            case "request_headers":
                return {"request_headers": {}}
            case "request_body":
                body = {**json.loads(message.request_body.body), "model": self.model}
                decided = {"route": "coding", "model": self.model, "cost_usd": 0.25}
                return {
                    "request_body": {"response": self.decision(json.dumps(body).encode())},
                    "dynamic_metadata": {"wissel": decided},
                }
            case "response_headers":
                mutation = {"set_headers": [header("x-wissel-model", self.model)]}
                override = {"mode_override": self.response_mode} if self.response_mode else {}
                return {"response_headers": {"response": {"header_mutation": mutation}}, **override}
            case kind:
                return {kind: {}}

    def decision(self, body: bytes | None) -> dict[str, Any]:
        headers = [header(CLUSTER_HEADER, self.cluster)]
        changed: dict[str, Any] = {}
        if body is not None:
            headers.append(header("content-length", str(len(body))))
            changed = {"body_mutation": {"body": b64encode(body).decode()}}
        removed = ["authorization"]
        return {
            "header_mutation": {"set_headers": headers, "remove_headers": removed},
            "clear_route_cache": True,
            **changed,
        }

    def attributes(self, phase: str) -> dict[str, Any]:
        """What Envoy told along with the first message of a phase."""
        [message] = [one for one in self.seen if one.WhichOneof("request") == phase]
        return dict(message.attributes["envoy.filters.http.ext_proc"])

    def headers(self) -> dict[str, str]:
        """Of the latest request, as the processor saw them."""
        latest = [one for one in self.seen if one.WhichOneof("request") == "request_headers"][-1]
        return {h.key: h.raw_value.decode() for h in latest.request_headers.headers.headers}


def header(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "raw_value": b64encode(value.encode()).decode()}}


_refusal = {
    "status": {"code": "Forbidden"},
    "headers": {"set_headers": [{"header": {"key": "content-type", "raw_value": "YXBwbGljYXRpb24vanNvbg=="}}]},
    "body": "eyJlcnJvciI6ICJvdXJzIn0=",
    "details": "wissel_no_rule",
}
_our_host = {"header_mutation": {"set_headers": [header("host", "x")]}}
misbehaviours: dict[str, dict[str, Any]] = {
    "refuse": {"immediate_response": _refusal},
    "forbidden mutation": {"request_headers": {"response": _our_host}},
}
"""What it answers to the request's headers; `refuse` is 403 `{"error": "ours"}` of `application/json`."""


@asynccontextmanager
async def running_processor(processor: Processor, address: str = "127.0.0.1:0") -> AsyncGenerator[Processor]:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    service.add_ExternalProcessorServicer_to_server(processor, server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    await checks.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port(address)
    await server.start()
    processor.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"
    try:
        yield processor
    finally:
        await server.stop(0)
