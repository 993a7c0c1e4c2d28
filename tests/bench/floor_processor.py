# grpcio and xds-protos ship no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
# pyright: reportMissingModuleSource=false
"""The floor that wissel is measured against: a processor on grpc.aio that parses each message and decides nothing.

    python -m tests.bench.floor_processor ADDRESS CLUSTER

It answers with the same kinds of messages as wissel, made once: a header that
routes to CLUSTER, and nothing else.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as service

from wissel.core.names import CLUSTER_HEADER


class Floor(service.ExternalProcessorServicer):
    """Answers without looking."""

    def __init__(self, cluster: str) -> None:
        routed = pb.ProcessingResponse()
        option = routed.request_body.response.header_mutation.set_headers.add()
        option.header.key, option.header.raw_value = CLUSTER_HEADER, cluster.encode()
        routed.request_body.response.clear_route_cache = True
        self._answers = {
            "request_headers": pb.ProcessingResponse(request_headers=pb.HeadersResponse()),
            "request_body": routed,
            "response_headers": pb.ProcessingResponse(response_headers=pb.HeadersResponse()),
            "response_body": pb.ProcessingResponse(response_body=pb.BodyResponse()),
        }

    async def Process(  # noqa: N802  # gRPC's name
        self, request_iterator: AsyncIterator[pb.ProcessingRequest], context: Any
    ) -> AsyncIterator[pb.ProcessingResponse]:
        _ = context
        async for message in request_iterator:
            yield self._answers[message.WhichOneof("request")]


async def _main(address: str, cluster: str) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    service.add_ExternalProcessorServicer_to_server(Floor(cluster), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2]))
