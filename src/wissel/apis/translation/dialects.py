"""The formats that are translated. A row is all that is needed for one more."""

from collections.abc import Mapping
from typing import Final

from wissel.apis.translation.chat import answers as chat_answers
from wissel.apis.translation.chat import streams as chat_streams
from wissel.apis.translation.dialect import Dialect
from wissel.apis.translation.messages import answers as messages_answers
from wissel.apis.translation.messages import streams as messages_streams
from wissel.apis.translation.responses import answers as responses_answers
from wissel.apis.translation.responses import streams as responses_streams
from wissel.apis.translation.troubles import anthropic_trouble, openai_trouble

CHAT: Final = Dialect(
    name="chat",
    read_answer=chat_answers.read_answer,
    write_answer=chat_answers.write_answer,
    reader=chat_streams.ChatReader,
    writer=chat_streams.ChatWriter,
    write_trouble=openai_trouble,
    request_id_header="x-request-id",
)

MESSAGES: Final = Dialect(
    name="messages",
    read_answer=messages_answers.read_answer,
    write_answer=messages_answers.write_answer,
    reader=messages_streams.MessagesReader,
    writer=messages_streams.MessagesWriter,
    write_trouble=anthropic_trouble,
    request_id_header="request-id",
)

RESPONSES: Final = Dialect(
    name="responses",
    read_answer=responses_answers.read_answer,
    write_answer=responses_answers.write_answer,
    reader=responses_streams.ResponsesReader,
    writer=responses_streams.ResponsesWriter,
    write_trouble=openai_trouble,
    request_id_header="x-request-id",
)

DIALECTS: Final[Mapping[str, Dialect]] = {row.name: row for row in (CHAT, MESSAGES, RESPONSES)}
"""By name."""
