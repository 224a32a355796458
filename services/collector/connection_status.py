"""How an exchange is connected, and why it is so. Its moments are of the monotonic clock."""

import logging

from services.collector import metrics
from services.core.bounds import clean
from services.core.exchange import Exchange
from services.ports import Clock

log = logging.getLogger(__name__)

BEGINNING = "not connected yet"


class Link:
    """By which way prices come now. Connections are known by any object that stands for them."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange, self._clock = exchange, clock
        self.transport, self.host, self.reason = "none", "", BEGINNING
        self.sockets: dict[object, str] = {}  # connections that gave a price, and their hosts
        self.since = self.proof = clock.monotonic()  # of being connected; when a socket last proved alive
        self.streaming = self.since  # since when a socket was up without a break
        self.unfilled = False  # a new connection says nothing of those that do not change
        self.reconnects = 0
        self._socketless = BEGINNING  # why there is no socket
        self._lost: tuple[int, str] | None = None

    @property
    def connected(self) -> bool:
        """Do prices come?"""
        return self.transport != "none"

    def opened(self, connection: object, host: str, now: int) -> tuple[int, str] | None:
        """A connection gives its first price. If none was up: when the last one last proved alive, and why it ended."""
        lost = None
        if not self.sockets:
            self.streaming, self.unfilled = now, True
            lost, self._lost = self._lost, None
        self.sockets[connection] = host
        self._up("socket", host, "connected")
        return lost

    def closed(self, connection: object, reason: str | None) -> None:
        """A connection ended, or could not be had. Without a reason: we stop."""
        was = self.sockets.pop(connection, None)
        if self.sockets or reason is None:
            return
        self._socketless = reason = clean(reason)  # an exchange's own words may be in it
        if was is not None:
            self._lost = self.proof, reason
            self.reconnects += 1
            metrics.RECONNECTS.labels(self._exchange.name).inc()
        if self.transport != "polling":
            self.down(reason)

    def polled(self, host: str) -> None:
        """A poll was answered."""
        if not self.sockets:
            pace = f"polled each {self._exchange.poll_seconds:g} s"
            self._up("polling", host, f"{pace}: {self._socketless}" if self._exchange.sockets else pace)

    def down(self, reason: str) -> None:
        """Nothing comes by requests, nor by a socket if none is up."""
        if self.sockets:
            return
        reason = clean(reason)
        news = self.connected or self.reason == BEGINNING
        log.log(logging.WARNING if news else logging.DEBUG, "%s: %s", self._exchange.name, reason)
        if self.connected:
            self.since = self._clock.monotonic()
        self.transport, self.reason = "none", reason

    def _up(self, transport: str, host: str, reason: str) -> None:
        if not self.connected:
            self.since = self._clock.monotonic()
        if (self.transport, self.host) != (transport, host):
            log.info("%s: %s from %s", self._exchange.name, transport, host)
        self.transport, self.host, self.reason = transport, host, reason
