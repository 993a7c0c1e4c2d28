# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
"""What llm-rosetta takes for the events that `tests.bench.translation` gives it; run by an interpreter that has it.

    PYTHON tests/bench/rosetta.py SPOKEN WANTED < events        microseconds an event

An event is a line of JSON. They are read and written as JSON, as they would be
behind a socket; cutting the stream into events is left out, and so in its favour.
"""

import json
import sys
from time import thread_time

from llm_rosetta import AnthropicConverter, OpenAIChatConverter, OpenAIResponsesConverter

CONVERTERS = {"chat": OpenAIChatConverter, "messages": AnthropicConverter, "responses": OpenAIResponsesConverter}


def measure(spoken: str, wanted: str, events: list[str]) -> float:
    reads, writes = CONVERTERS[spoken](), CONVERTERS[wanted]()
    heard, told = reads.create_stream_context(), writes.create_stream_context()
    size = 0
    began = thread_time()
    for event in events:
        for each in reads.stream_response_from_provider(json.loads(event), heard):
            size += len(json.dumps(writes.stream_response_to_provider(each, told)))
    taken = thread_time() - began
    assert size > len(events), "nothing was written"
    return taken / len(events) * 1e6


if __name__ == "__main__":
    lines = sys.stdin.read().splitlines()
    print(min(measure(sys.argv[1], sys.argv[2], lines) for _ in range(5)))
