"""Limits on live connections, per replica and per address, and the origins that browsers may connect from."""

import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from starlette.types import Scope

from services.api.streams import metrics
from services.api.streams.broadcaster import Broadcaster
from services.core.errors import Forbidden, Overloaded, QuotaExceeded
from services.settings import Settings
from services.web import AllowedHosts, ClientAddresses, DirectWriter

SEND_BUFFER_BYTES = 64 * 1024  # that the kernel buffers for a client, beside MAX_BUFFERED_BYTES here
UNACKNOWLEDGED_TIMEOUT_MS = 30_000  # after which the kernel closes the connection of a client that acknowledges nothing


class ConnectionLimiter:
    """The limits of one replica."""

    def __init__(self, settings: Settings, broadcaster: Broadcaster) -> None:
        self._broadcaster = broadcaster
        self._addresses = ClientAddresses(settings.trusted_proxies)
        self._hosts = AllowedHosts(settings.allowed_hosts, settings.host)
        self._allowed_origins = settings.cors_allowed_origins
        self._max_connections = settings.websocket_max_connections
        self._max_per_address = settings.stream_address_connections
        self._open_by_address: Counter[str] = Counter()

    @contextmanager
    def admit(self, scope: Scope) -> Iterator[DirectWriter]:
        """Count a connection until the block ends; yield its writer. Raises Overloaded, QuotaExceeded."""
        address = self._addresses.client_of(scope)
        self._check_limits(address)
        self._open_by_address[address] += 1
        try:
            yield DirectWriter(tune_socket(scope["extensions"]["kurs.wire"]))
        finally:
            self._open_by_address[address] -= 1
            self._open_by_address += Counter()  # drops addresses with no connection left

    def check_origin(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raise Forbidden for a page of an origin that is not allowed."""
        if not self._hosts.allows_origin(headers, self._allowed_origins):
            metrics.REFUSED.labels("origin").inc()
            origin = headers[b"origin"].decode("latin-1").lower()
            raise Forbidden(
                f"pages of {origin[:100]} may not connect to {scope['path']}: see CORS_ALLOWED_ORIGINS, or "
                "KURS_ALLOWED_HOSTS for those of this server"
            )

    def _check_limits(self, address: str) -> None:
        if self._broadcaster.closed or self._open_by_address.total() >= self._max_connections:
            metrics.REFUSED.labels("replica").inc()
            raise Overloaded("this replica takes no more live connections: try again")
        if self._open_by_address[address] >= self._max_per_address:
            metrics.REFUSED.labels("address").inc()
            raise QuotaExceeded(f"{self._max_per_address} live connections from one address are allowed: close one")


def tune_socket(transport: Any) -> Any:
    """Bound what the kernel buffers for a client, and the time that it waits for an acknowledgement."""
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_TIMEOUT_MS))
    with suppress(OSError, ValueError):  # the connection may be closed already
        for option in options:
            transport.get_extra_info("socket").setsockopt(*option)
    return transport
