"""One connection, from its opening to its end."""

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
library_log.setLevel(logging.INFO)  # at DEBUG the library writes headers, keys among them

MAX_MALFORMED_MESSAGES = 20  # messages; so many more that are bad than good are no accident
FIRST_PRICE_TIMEOUT_MS = 60_000  # ms; a connection that has given no price by then will not
RENEW_SILENT_AFTER_MS = 60_000  # ms; a connection this old that leaves an instrument silent is tried anew


class SessionEvent(Enum):
    """What a connection's keeper needs to know."""

    FIRST_PRICE = auto()  # a price came
    RENEW = auto()  # it must go soon
    CLOSED = auto()


class Disconnect(Exception):
    """We leave a connection."""

    def __init__(self, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


async def acquire_slot(window: SlidingWindow) -> None:
    """Wait until one more is allowed, and note it. By the loop's clock, which nobody turns."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(window.delay(loop.time()))
    window.record(loop.time())


class SocketSession:
    """One connection. Its keeper hears of it by `news`."""

    def __init__(self, feed: ExchangeFeed, stream_spec: StreamSpec, url: str) -> None:
        self.feed, self.stream_spec, self.url = feed, stream_spec, url
        self.host = urlsplit(url).hostname or ""
        self.events: asyncio.Queue[SessionEvent] = asyncio.Queue()
        self.retry_after = 0.0  # seconds that the exchange wants to be left alone
        self._has_price = self._renewing = False
        self._connection: BatchConnection | None = None
        self._close_reason = ""
        self._opened_at = self._last_message_at = feed.clock.monotonic()
        self._silence_detector = SilenceDetector(feed.exchange.idle_timeout * 1000)
        self._malformed, self._send_limit = 0, SlidingWindow(feed.exchange.send_limit)

    async def run(self) -> None:
        """Read until the end, whatever the end is."""
        reason = None
        try:
            await self._read_loop()
        except Disconnect as left:
            reason, self.retry_after = left.reason, left.retry_after
        except InvalidStatus as error:
            reason = self._handshake_error(error)
        except (WebSocketException, OSError) as error:
            settings = self.feed.deps.settings
            reason = f"{self.host}: {outbound.failure_text(error, outbound.proxy_for(settings, self.url))}"
        finally:
            self._connection = None
            self.feed.connection.on_socket_closed(self, reason and (self._close_reason or reason))
            self.events.put_nowait(SessionEvent.CLOSED)

    async def close(self) -> None:
        """Close in peace."""
        if self._connection:
            self._close_reason = self._close_reason or "renewed"
            await self._connection.close()

    def check_health(self) -> None:
        """Give a dead connection up; ask for another before this one's time is over, or when it leaves one silent."""
        now = self.feed.clock.monotonic()
        if self._connection and now - self._last_message_at > self._silence_detector.allowed_pause:
            self._close_reason = f"{self.host}: nothing came for {(now - self._last_message_at) / 1000:.0f} s"
            self._connection.transport.abort()
        elif self._connection and not self._has_price and now - self._opened_at > FIRST_PRICE_TIMEOUT_MS:
            self._close_reason = f"{self.host}: no price came in {FIRST_PRICE_TIMEOUT_MS // 1000} s"
            self._connection.transport.abort()
        elif now - self._opened_at > self.feed.exchange.max_connection_seconds * 1000:
            self._request_renewal("its time is nearly over")
        elif now - self._opened_at > RENEW_SILENT_AFTER_MS and (silent := self.feed.tracker.silent(now)):
            self._request_renewal(f"{silent[0]} is silent")

    async def _read_loop(self) -> None:
        async with connect(
            self.url + self.stream_spec.path,
            additional_headers=self.feed.exchange.credentials(),
            user_agent_header=USER_AGENT,
            compression=None,
            create_connection=BatchConnection,
            open_timeout=5,
            close_timeout=1,
            ping_interval=None,  # pings of ours count against the limit, and prices prove more
            logger=library_log,
            **outbound.websocket_options(self.feed.deps.settings, self.url),
        ) as socket:
            self._connection, self._last_message_at = cast("BatchConnection", socket), self.feed.clock.monotonic()
            for frame in self.stream_spec.on_open:
                await self._send(self._connection, frame)
            while True:
                await self._on_batch(self._connection, await self._connection.recv_batch())

    async def _on_batch(self, connection: BatchConnection, messages: Sequence[bytes]) -> None:
        now, events = self.feed.clock.monotonic(), list[Event]()
        try:
            understood = [self._parse(message, events, now) for message in messages]
        finally:  # what was said before too much garbage counts
            self.feed.on_events(events)
        self._malformed = max(0, self._malformed - sum(understood))
        if any(understood):
            self._last_message_at = self.feed.connection.last_alive = now
            self._silence_detector = self._silence_detector.after_message(now)
            self.feed.on_message(now, sum(understood))
        await self.feed.wait_for_capacity()
        for event in events:
            match event:
                case SendFrame():
                    await self._send(connection, event.frame)
                case Reconnect():
                    self._request_renewal(event.reason)
                case ExchangeRefusal():
                    raise Disconnect(event.reason, event.retry_seconds)

    def _parse(self, message: bytes, events: list[Event], now: int) -> bool:
        """Add what a message says to `events`; answers whether it can be understood."""
        try:
            said = self.feed.validate(self.stream_spec.parse(message, self.feed.stamps.wall_time(now)), now)
        except Exception as error:  # noqa: BLE001  whatever it is, it came from outside
            self.feed.on_malformed(error)
            self._on_malformed()
            return False
        if said and all(isinstance(event, InvalidValue) for event in said):
            self._on_malformed()
            return False
        if not self._has_price and any(isinstance(event, SequencedQuote | Trade) for event in said):
            self._has_price = True
            self.feed.on_first_price(self, self.host, now)
            self.events.put_nowait(SessionEvent.FIRST_PRICE)
        events += said
        return True

    def _on_malformed(self) -> None:
        self._malformed += 1
        if self._malformed > MAX_MALFORMED_MESSAGES:
            raise Disconnect(f"{self.host}: too much of what it sends cannot be understood") from None

    async def _send(self, connection: BatchConnection, frame: str) -> None:
        await acquire_slot(self._send_limit)
        await connection.send(frame)

    def _request_renewal(self, reason: str) -> None:
        if not self._renewing:
            self._renewing = True
            log.info("%s: another connection is made: %s", self.feed.exchange.name, reason)
            self.events.put_nowait(SessionEvent.RENEW)

    def _handshake_error(self, error: InvalidStatus) -> str:
        response, exchange = error.response, self.feed.exchange
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        answer = RestResponse(response.status_code, headers, bytes(response.body or b""))
        self.retry_after = exchange.retry_delay(answer, self.feed.exchange_now())
        return f"{self.host} answers {answer.status} {self.feed.error_text(answer.body)}".strip()
