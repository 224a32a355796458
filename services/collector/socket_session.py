"""One WebSocket connection to an exchange, from its opening to its end."""

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum, auto
from typing import cast
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from services import __version__, outbound
from services.collector.batch_connection import BatchConnection
from services.collector.exchange_feed import ExchangeFeed
from services.core.exchange import (
    Event,
    ExchangeRefusal,
    InvalidValue,
    Reconnect,
    RestResponse,
    SendFrame,
    SequencedQuote,
    StreamSpec,
)
from services.core.model import Trade
from services.core.rate_limit import SlidingWindow
from services.core.silence import SilenceDetector

USER_AGENT = f"kurs/{__version__}"
log = logging.getLogger(__name__)
library_log = logging.getLogger(f"{__name__}.wire")
library_log.setLevel(logging.INFO)  # at DEBUG the library logs headers, API keys among them

MAX_MALFORMED_MESSAGES = 20  # more than well-formed ones: so many are no accident
FIRST_PRICE_TIMEOUT_MS = 60_000
RENEW_SILENT_AFTER_MS = 60_000  # age of a connection that is renewed when an instrument is silent
OPEN_TIMEOUT_SECONDS, CLOSE_TIMEOUT_SECONDS = 5, 1


class SessionState(Enum):
    """Life of a session. A renewal is requested before the connection ends, so that prices go on meanwhile."""

    CONNECTING = auto()
    UNPROVEN = auto()  # open, and no price has arrived
    GOOD = auto()
    RENEWING_UNPROVEN = auto()  # a successor is requested before any price has arrived
    RENEWING = auto()  # a successor is requested
    CLOSED = auto()

    @property
    def has_price(self) -> bool:
        """Whether a price has arrived."""
        return self in (SessionState.GOOD, SessionState.RENEWING)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self not in (SessionState.CONNECTING, SessionState.CLOSED)


class SessionEvent(Enum):
    """What changes a session's state. All but OPENED are reported to the socket loop."""

    OPENED = auto()
    FIRST_PRICE = auto()
    RENEW = auto()  # the connection will end soon, or leaves an instrument silent
    CLOSED = auto()


_NEXT_STATES = {
    (SessionState.CONNECTING, SessionEvent.OPENED): SessionState.UNPROVEN,
    (SessionState.UNPROVEN, SessionEvent.FIRST_PRICE): SessionState.GOOD,
    (SessionState.UNPROVEN, SessionEvent.RENEW): SessionState.RENEWING_UNPROVEN,
    (SessionState.GOOD, SessionEvent.RENEW): SessionState.RENEWING,
    (SessionState.RENEWING_UNPROVEN, SessionEvent.FIRST_PRICE): SessionState.RENEWING,
}


def next_state(state: SessionState, event: SessionEvent) -> SessionState:
    """Return the state after an event. An event that does not fit changes nothing."""
    return SessionState.CLOSED if event is SessionEvent.CLOSED else _NEXT_STATES.get((state, event), state)


class Disconnect(Exception):
    """Raised to end a connection from our side. `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


async def acquire_slot(window: SlidingWindow) -> None:
    """Wait until the rate limit allows one more, and count it."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(window.delay(loop.time()))
    window.record(loop.time())


class SocketSession:
    """One connection. It reports to the socket loop by `events`."""

    def __init__(self, feed: ExchangeFeed, stream_spec: StreamSpec, url: str) -> None:
        self.feed, self.stream_spec, self.url = feed, stream_spec, url
        self.host = urlsplit(url).hostname or ""
        self.events: asyncio.Queue[SessionEvent] = asyncio.Queue()
        self.retry_after = 0.0  # seconds for which the exchange wants no connection
        self.state = SessionState.CONNECTING
        self._connection: BatchConnection | None = None  # while the state is open
        self._close_reason = ""
        self._opened_at = self._last_message_at = feed.clock.monotonic()
        self._silence_detector = SilenceDetector(feed.exchange.idle_timeout * 1000)
        self._malformed, self._send_limit = 0, SlidingWindow(feed.exchange.send_limit)

    async def run(self) -> None:
        """Open the connection and read it until it ends."""
        reason = None
        try:
            await self._read_loop()
        except Disconnect as disconnect:
            reason, self.retry_after = disconnect.reason, disconnect.retry_after
        except InvalidStatus as error:
            reason = self._handshake_error(error)
        except (WebSocketException, OSError) as error:
            settings = self.feed.settings
            reason = f"{self.host}: {outbound.failure_text(error, outbound.proxy_for(settings, self.url))}"
        finally:
            self._connection = None
            self.feed.connection.on_socket_closed(self, reason and (self._close_reason or reason))
            self._transition(SessionEvent.CLOSED)

    async def close(self) -> None:
        """Close with a closing handshake."""
        if self._connection:
            self._close_reason = self._close_reason or "renewed"
            await self._connection.close()

    def check_health(self) -> None:
        """Abort a dead connection. Request a successor of one that is old, or that leaves an instrument silent."""
        now = self.feed.clock.monotonic()
        if self.state.is_open and (reason := self._dead_reason(now)):
            self._abort(f"{self.host}: {reason}")
        elif now - self._opened_at > self.feed.exchange.max_connection_seconds * 1000:
            self._request_renewal("its time is nearly over")
        elif now - self._opened_at > RENEW_SILENT_AFTER_MS and (silent := self.feed.tracker.silent(now)):
            self._request_renewal(f"{silent[0]} is silent")

    def _dead_reason(self, now: int) -> str:
        """Return why the connection counts as dead; "" if it does not."""
        silent_ms = now - self._last_message_at
        if silent_ms > self._silence_detector.allowed_pause:
            return f"no message for {silent_ms / 1000:.0f} s"
        if not self.state.has_price and now - self._opened_at > FIRST_PRICE_TIMEOUT_MS:
            return f"no price within {FIRST_PRICE_TIMEOUT_MS // 1000} s"
        return ""

    def _abort(self, reason: str) -> None:
        if self._connection:
            self._close_reason = reason
            self._connection.transport.abort()

    async def _read_loop(self) -> None:
        async with connect(
            self.url + self.stream_spec.path,
            additional_headers=self.feed.exchange.credentials(),
            user_agent_header=USER_AGENT,
            compression=None,
            create_connection=BatchConnection,
            open_timeout=OPEN_TIMEOUT_SECONDS,
            close_timeout=CLOSE_TIMEOUT_SECONDS,
            ping_interval=None,  # our pings count against the exchange's limit, and prices prove more
            logger=library_log,
            **outbound.websocket_options(self.feed.settings, self.url),
        ) as socket:
            connection = self._connection = cast("BatchConnection", socket)
            self._last_message_at = self.feed.clock.monotonic()
            self._transition(SessionEvent.OPENED)
            for frame in self.stream_spec.on_open:
                await self._send(connection, frame)
            while True:
                await self._on_batch(connection, await connection.recv_batch())

    async def _on_batch(self, connection: BatchConnection, messages: Sequence[bytes]) -> None:
        now, events = self.feed.clock.monotonic(), list[Event]()
        try:
            well_formed = sum([self._parse(message, events, now) for message in messages])
        finally:  # the messages before too many malformed ones count
            self.feed.on_events(events)
        self._malformed = max(0, self._malformed - well_formed)
        if well_formed:
            self._last_message_at = self.feed.connection.last_alive = now
            self._silence_detector = self._silence_detector.after_message(now)
            self.feed.on_message(now, well_formed)
        await self.feed.queue.wait_for_capacity()
        for event in events:
            match event:
                case SendFrame():
                    await self._send(connection, event.frame)
                case Reconnect():
                    self._request_renewal(event.reason)
                case ExchangeRefusal():
                    raise Disconnect(event.reason, event.retry_seconds)

    def _parse(self, message: bytes, events: list[Event], now: int) -> bool:
        """Add the events of a message to `events`. Return whether the message is well-formed."""
        try:
            wall_time = self.feed.clocks.wall.wall_time(now)
            parsed = self.feed.validate(self.stream_spec.parse(message, wall_time), now)
        except Exception as error:  # noqa: BLE001  whatever is wrong with it came from outside
            self.feed.on_malformed(error)
            self._on_malformed()
            return False
        if parsed and all(isinstance(event, InvalidValue) for event in parsed):
            self._on_malformed()
            return False
        if not self.state.has_price and any(isinstance(event, SequencedQuote | Trade) for event in parsed):
            self.feed.on_first_price(self, self.host, now)
            self._transition(SessionEvent.FIRST_PRICE)
        events += parsed
        return True

    def _on_malformed(self) -> None:
        self._malformed += 1
        if self._malformed > MAX_MALFORMED_MESSAGES:
            raise Disconnect(f"{self.host}: too many messages cannot be parsed") from None

    async def _send(self, connection: BatchConnection, frame: str) -> None:
        await acquire_slot(self._send_limit)
        await connection.send(frame)

    def _request_renewal(self, reason: str) -> None:
        if self._transition(SessionEvent.RENEW):
            log.info("%s: another connection is opened: %s", self.feed.exchange.name, reason)

    def _transition(self, event: SessionEvent) -> bool:
        """Change the state, and report the event if that is a change."""
        before, self.state = self.state, next_state(self.state, event)
        if self.state is before:
            return False
        if event is not SessionEvent.OPENED:
            self.events.put_nowait(event)
        return True

    def _handshake_error(self, error: InvalidStatus) -> str:
        http_response, exchange = error.response, self.feed.exchange
        headers = {name.lower(): value for name, value in http_response.headers.raw_items()}
        response = RestResponse(http_response.status_code, headers, bytes(http_response.body or b""))
        self.retry_after = exchange.retry_delay(response, self.feed.clocks.exchange_now())
        return f"{self.host} responded {response.status} {self.feed.error_text(response.body)}".strip()
