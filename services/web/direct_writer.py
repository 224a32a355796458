"""A connection's transport, for sending the same data to thousands of clients."""

import asyncio
from os import write as send

# Closing codes of WebSockets, of the range for private use. Below 4400 a client may connect again as it did.
CLOSE_RESTART, CLOSE_TOO_SLOW, CLOSE_TOO_MANY, CLOSE_SIGNED_OUT = 4000, 4001, 4400, 4401
TRANSPORT_EXTENSION = "kurs.wire"  # the extension of an ASGI scope with the connection's transport


class DirectWriter:
    """Sends at once what the socket takes; the transport buffers the rest, in order.

    uvloop's own `write` buffers data and sends it in the next iteration of the loop. Of thousands of connections each
    is then visited twice, and the first client waits for the last.
    """

    __slots__ = ("_descriptor", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        socket, encrypted = transport.get_extra_info("socket"), transport.get_extra_info("sslcontext")
        self._transport = transport
        self._descriptor = socket.fileno() if socket and not encrypted else None

    @property
    def buffered(self) -> int:
        """Bytes in the transport's buffer."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> int:
        """Send or buffer data, and return how many bytes are buffered. To a closing connection nothing is sent."""
        transport = self._transport
        if transport.is_closing():  # its descriptor may soon be that of another connection
            return 0
        if self._descriptor is not None and not transport.get_write_buffer_size():
            try:
                sent = send(self._descriptor, data)
            except OSError:  # full or broken, which the transport notices and reports to its protocol
                sent = 0
            if sent == len(data):
                return 0
            data = data[sent:]
        transport.write(data)
        return transport.get_write_buffer_size()

    def close(self) -> None:
        """Close when the buffer is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()
