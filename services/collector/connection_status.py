"""How an exchange is connected, and why. Times are of the monotonic clock, in ms."""

import logging
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from services.collector import metrics
from services.core.bounds import clean_text
from services.core.exchange import Exchange
from services.ports import Clock

log = logging.getLogger(__name__)

NOT_CONNECTED_YET = "not connected yet"


class Transport(StrEnum):
    """What delivers prices. The values are those of `ExchangeStatus.transport`."""

    DOWN = "none"
    POLLING = "polling"
    STREAMING = "socket"


class ConnectionEvent(Enum):
    """What changes the transport. A poll and a request count only while no socket is open."""

    SOCKET_OPENED = auto()  # it delivered its first price
    SOCKET_FAILED = auto()  # the last one ended, or an attempt to open one failed
    POLL_SUCCEEDED = auto()
    REQUEST_FAILED = auto()


class SocketLoss(NamedTuple):
    """The end of the last open socket."""

    last_alive: int
    reason: str


def next_transport(transport: Transport, event: ConnectionEvent) -> Transport:
    """Return what delivers prices after an event."""
    match event:
        case ConnectionEvent.SOCKET_OPENED:
            return Transport.STREAMING
        case ConnectionEvent.POLL_SUCCEEDED:
            return Transport.POLLING
        case ConnectionEvent.SOCKET_FAILED if transport is Transport.POLLING:
            return Transport.POLLING  # polls deliver prices without it
        case ConnectionEvent.SOCKET_FAILED | ConnectionEvent.REQUEST_FAILED:
            return Transport.DOWN


class ConnectionStatus:
    """State of the connection to one exchange. A socket is known by any object that stands for it."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange, self._clock = exchange, clock
        self.transport, self.host, self.reason = Transport.DOWN, "", NOT_CONNECTED_YET
        self.open_sockets: dict[object, str] = {}  # sockets that delivered a price, with their hosts
        self.since = clock.monotonic()  # of being connected, or of being down
        self.last_alive = self.streaming_since = self.since  # of any socket; of the first of those open now
        self.needs_initial_poll = False  # a new socket sends only what changes
        self.reconnects = 0
        self._no_socket_reason = NOT_CONNECTED_YET
        self._last_loss: SocketLoss | None = None

    @property
    def connected(self) -> bool:
        """Whether prices arrive."""
        return self.transport is not Transport.DOWN

    def on_socket_open(self, socket: object, host: str, now: int) -> SocketLoss | None:
        """Record a socket's first price. Return the loss of the socket before it, if no other was open meanwhile."""
        lost = None
        if not self.open_sockets:
            self.streaming_since, self.needs_initial_poll = now, True
            lost, self._last_loss = self._last_loss, None
        self.open_sockets[socket] = host
        self._apply(ConnectionEvent.SOCKET_OPENED, "connected", host)
        return lost

    def on_socket_closed(self, socket: object, reason: str | None) -> None:
        """Record that a socket ended, or could not be opened. `reason` is None when the collector itself stops."""
        host = self.open_sockets.pop(socket, None)
        if self.open_sockets or reason is None:
            return
        self._no_socket_reason = reason = clean_text(reason)  # it may quote the exchange
        if host is not None:
            self._last_loss = SocketLoss(self.last_alive, reason)
            self.reconnects += 1
            metrics.RECONNECTS.labels(self._exchange.name).inc()
        self._apply(ConnectionEvent.SOCKET_FAILED, reason)

    def on_poll(self, host: str) -> None:
        """Record that a poll succeeded."""
        if not self.open_sockets:
            pace = f"polled each {self._exchange.poll_seconds:g} s"
            reason = f"{pace}: {self._no_socket_reason}" if self._exchange.ws_urls else pace
            self._apply(ConnectionEvent.POLL_SUCCEEDED, reason, host)

    def on_request_error(self, reason: str) -> None:
        """Record that a request failed."""
        if not self.open_sockets:
            self._apply(ConnectionEvent.REQUEST_FAILED, clean_text(reason))

    def _apply(self, event: ConnectionEvent, reason: str, host: str = "") -> None:
        before, self.transport = self.transport, next_transport(self.transport, event)
        if self.transport is Transport.DOWN:
            is_news = before is not Transport.DOWN or self.reason == NOT_CONNECTED_YET
            log.log(logging.WARNING if is_news else logging.DEBUG, "%s: %s", self._exchange.name, reason)
        elif event is ConnectionEvent.SOCKET_FAILED:
            return  # polling goes on, with the reason that it has
        elif (before, self.host) != (self.transport, host):
            log.info("%s: %s from %s", self._exchange.name, self.transport, host)
        if (before is Transport.DOWN) != (self.transport is Transport.DOWN):
            self.since = self._clock.monotonic()
        self.reason, self.host = reason, host or self.host
