"""h2, set up for a server whose few connections carry many long streams.

h2 keeps the protocol; what differs here is what it does too strictly or too
slowly for a peer such as Envoy. A GOAWAY, sent or received, announces the end
of a connection but does not stop the streams in flight. And streams are
counted by their owner: h2 walks all of them at every request, which with
thousands of open server-sent-event streams costs more than the request.
"""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, WindowUpdateFrame

from wissel.extproc.headers import RememberingDecoder, RememberingEncoder

STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 16 << 20
MAX_FRAME_BYTES = 1 << 18
LAST_STREAM_ID = 2**31 - 1
"""In a GOAWAY: every stream that the peer has opened so far will be served."""


class ServerConnection(H2Connection):
    """The server's side of a connection; its owner calls `forget` for each stream that is over.

    A stream beyond `max_streams` is not a connection error: its owner refuses
    it, because the peer may have opened it before it had seen the settings.
    """

    def __init__(self, *, max_streams: int, max_header_bytes: int) -> None:
        # Nothing here forwards a header, and those sent are constants: checking them buys nothing.
        super().__init__(
            H2Configuration(
                client_side=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: max_header_bytes,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            },
        )
        # h2 copies these from its defaults before they can be set.
        self.max_inbound_frame_size = MAX_FRAME_BYTES
        self.decoder = RememberingDecoder(max_header_bytes)
        self.encoder = RememberingEncoder()

    def begin(self) -> None:
        """Announce the settings and the connection's window."""
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    @property
    def open_inbound_streams(self) -> int:
        """Zero, so that h2 neither walks the streams nor refuses one: the owner counts."""
        return 0

    def half_closed(self, stream_id: int) -> bool:
        """Whether the peer may still send on a stream of which everything has been sent."""
        return not self.streams[stream_id].closed

    def forget(self, stream_id: int) -> None:
        """Drop a stream that is over, remembering only how it ended."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._closed_streams[stream_id] = stream.closed_by

    def say_goodbye(self, last_stream_id: int, error: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Send a GOAWAY and go on; `close_connection` would refuse the streams in flight."""
        self._prepare_for_sending([GoAwayFrame(0, last_stream_id=last_stream_id, error_code=error)])

    def _receive_frame(self, frame: Frame) -> list[Event]:
        # h2 formats every frame, body and all, for a log that nobody reads: a fifth of the time an exchange takes.
        if isinstance(frame, DataFrame):
            replies, events = self._receive_data_frame(frame)
        elif isinstance(frame, WindowUpdateFrame):
            replies, events = self._receive_window_update_frame(frame)
        else:
            return super()._receive_frame(frame)
        self._prepare_for_sending(replies)
        return events

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]
