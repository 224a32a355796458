"""A connection's transport, for those who write the same to thousands."""

import asyncio
from os import write as send

CLOSE_TOO_SLOW, CLOSE_TOO_MANY = 4001, 4400  # closing codes of WebSockets: come back below 4400, do not from there on
TRANSPORT_EXTENSION = "kurs.wire"  # an extension of the scope: the transport of the connection


class DirectWriter:
    """What can be sent at once is sent at once; the transport keeps the rest, in order.

    uvloop's own `write` puts data aside and sends it when the loop comes round: of thousands of connections each is
    then visited twice, and the first waits for the last.
    """

    __slots__ = ("_descriptor", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        socket, encrypted = transport.get_extra_info("socket"), transport.get_extra_info("sslcontext")
        self._transport = transport
        self._descriptor = socket.fileno() if socket and not encrypted else None

    @property
    def buffered(self) -> int:
        """Bytes that are kept until they can be sent."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> int:
        """Send it, or keep it until it can be sent; answers how many bytes are kept. Nobody there: nothing is."""
        transport = self._transport
        if transport.is_closing():  # its descriptor may soon be another's
            return 0
        if self._descriptor is not None and not transport.get_write_buffer_size():
            try:
                sent = send(self._descriptor, data)
            except OSError:  # full, or broken: the transport finds out, and tells its protocol
                sent = 0
            if sent == len(data):
                return 0
            data = data[sent:]
        transport.write(data)
        return transport.get_write_buffer_size()

    def close(self) -> None:
        """Close when all is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()
