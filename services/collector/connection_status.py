"""How an exchange is connected, and why it is so. Its moments are of the monotonic clock."""

import logging

from services.collector import metrics
from services.core.bounds import clean_text
from services.core.exchange import Exchange
from services.ports import Clock

log = logging.getLogger(__name__)

NOT_CONNECTED_YET = "not connected yet"


class ConnectionStatus:
    """By which way prices come now. Connections are known by any object that stands for them."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange, self._clock = exchange, clock
        self.transport, self.host, self.reason = "none", "", NOT_CONNECTED_YET
        self.open_sockets: dict[object, str] = {}  # connections that gave a price, and their hosts
        self.since = self.last_alive = clock.monotonic()  # of being connected; when a socket last proved alive
        self.streaming_since = self.since  # since when a socket was up without a break
        self.needs_initial_poll = False  # a new connection says nothing of those that do not change
        self.reconnects = 0
        self._no_socket_reason = NOT_CONNECTED_YET  # why there is no socket
        self._last_loss: tuple[int, str] | None = None

    @property
    def connected(self) -> bool:
        """Do prices come?"""
        return self.transport != "none"

    def on_socket_open(self, connection: object, host: str, now: int) -> tuple[int, str] | None:
        """A connection gives its first price. If none was up: when the last one last proved alive, and why it ended."""
        lost = None
        if not self.open_sockets:
            self.streaming_since, self.needs_initial_poll = now, True
            lost, self._last_loss = self._last_loss, None
        self.open_sockets[connection] = host
        self._set_up("socket", host, "connected")
        return lost

    def on_socket_closed(self, connection: object, reason: str | None) -> None:
        """A connection ended, or could not be had. Without a reason: we stop."""
        was = self.open_sockets.pop(connection, None)
        if self.open_sockets or reason is None:
            return
        self._no_socket_reason = reason = clean_text(reason)  # an exchange's own words may be in it
        if was is not None:
            self._last_loss = self.last_alive, reason
            self.reconnects += 1
            metrics.RECONNECTS.labels(self._exchange.name).inc()
        if self.transport != "polling":
            self.set_down(reason)

    def on_poll(self, host: str) -> None:
        """A poll was answered."""
        if not self.open_sockets:
            pace = f"polled each {self._exchange.poll_seconds:g} s"
            self._set_up("polling", host, f"{pace}: {self._no_socket_reason}" if self._exchange.ws_urls else pace)

    def set_down(self, reason: str) -> None:
        """Nothing comes by requests, nor by a socket if none is up."""
        if self.open_sockets:
            return
        reason = clean_text(reason)
        news = self.connected or self.reason == NOT_CONNECTED_YET
        log.log(logging.WARNING if news else logging.DEBUG, "%s: %s", self._exchange.name, reason)
        if self.connected:
            self.since = self._clock.monotonic()
        self.transport, self.reason = "none", reason

    def _set_up(self, transport: str, host: str, reason: str) -> None:
        if not self.connected:
            self.since = self._clock.monotonic()
        if (self.transport, self.host) != (transport, host):
            log.info("%s: %s from %s", self._exchange.name, transport, host)
        self.transport, self.host, self.reason = transport, host, reason
