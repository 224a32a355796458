"""Who may come in: so many live connections per replica and per address, and browsers from known pages."""

import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from starlette.types import Scope

from services.api.streams import metrics
from services.api.streams.broadcaster import Fan
from services.core.errors import Forbidden, Overloaded, QuotaExceeded
from services.settings import Settings
from services.web import Addresses, Hosts, Wire

SEND_BUFFER = 64 * 1024  # bytes that the system keeps for a client that does not read, beside ours
SILENCE_MS = 30_000  # after which a client that acknowledges nothing is gone


class Doors:
    """The doors of one replica."""

    def __init__(self, settings: Settings, fan: Fan) -> None:
        self._fan, self._addresses = fan, Addresses(settings.trusted_proxies)
        self._most, self._most_each = settings.websocket_max_connections, settings.stream_address_connections
        self._pages, self._hosts = settings.cors_allowed_origins, Hosts(settings.allowed_hosts, settings.host)
        self._inside: Counter[str] = Counter()

    @contextmanager
    def entered(self, scope: Scope) -> Iterator[Wire]:
        """Inside as long as the block lasts; yields the wire. Raises Overloaded, QuotaExceeded."""
        address = self._addresses.of(scope)
        self._admit(address)
        self._inside[address] += 1
        try:
            yield Wire(tuned(scope["extensions"]["kurs.wire"]))
        finally:
            self._inside[address] -= 1
            self._inside += Counter()  # who has left is forgotten

    def known_page(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raises Forbidden for a browser that shows a page of somebody else."""
        if not self._hosts.admits_page(headers, self._pages):
            metrics.REFUSED.labels("origin").inc()
            origin = headers[b"origin"].decode("latin-1").lower()
            raise Forbidden(
                f"pages of {origin[:100]} may not connect to {scope['path']}: see CORS_ALLOWED_ORIGINS, or "
                "KURS_ALLOWED_HOSTS for those of this server"
            )

    def _admit(self, address: str) -> None:
        if self._fan.closed or self._inside.total() >= self._most:
            metrics.REFUSED.labels("replica").inc()
            raise Overloaded("this replica takes no more live connections: try again")
        if self._inside[address] >= self._most_each:
            metrics.REFUSED.labels("address").inc()
            raise QuotaExceeded(f"{self._most_each} live connections from one address are allowed: close one")


def tuned(transport: Any) -> Any:
    """The transport, made to forget soon who does not read."""
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS))
    with suppress(OSError, ValueError):  # it may be gone already
        for option in options:
            transport.get_extra_info("socket").setsockopt(*option)
    return transport
