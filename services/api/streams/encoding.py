"""What goes over the wire: WebSocket frames (RFC 6455) and server-sent events in HTTP chunks."""

from collections.abc import Mapping

import msgspec

from services.api.streams.channels import Channel
from services.core.journal import JournalEntry


class EncodedUpdate:
    """An entry that is being told, written out once for each channel, whoever follows it."""

    def __init__(self, entry: JournalEntry) -> None:
        self.entry = entry
        self._frames: dict[Channel, bytes] = {}
        self._events: dict[Channel, bytes] = {}

    def frame(self, channel: Channel) -> bytes:
        """As a WebSocket frame."""
        found = self._frames.get(channel)
        if found is None:
            found = self._frames[channel] = ws_update(channel, self.entry)
        return found

    def event(self, channel: Channel) -> bytes:
        """As an event, but for its id and its end."""
        found = self._events.get(channel)
        if found is None:
            found = self._events[channel] = sse_event(channel, self.entry)
        return found


def ws_update(channel: Channel, entry: JournalEntry) -> bytes:
    """A WebSocket message of an entry, framed."""
    return _ws_entry({"type": channel.message_type, **channel.labels}, entry)


def ws_snapshot(channel: Channel, entry: JournalEntry) -> bytes:
    """A WebSocket message of how things stand, framed."""
    return _ws_entry({"type": "snapshot", "channel": channel.name, **channel.labels}, entry)


def _ws_entry(words: Mapping[str, str], entry: JournalEntry) -> bytes:
    opening = msgspec.json.encode(words)[:-1].decode()
    return ws_frame(f'{opening},"data":{entry.data},"seq":{entry.seq},"time":{entry.time}}}'.encode())


def sse_event(channel: Channel, entry: JournalEntry, is_snapshot: bool = False) -> bytes:
    """The event of an entry but for its id and its end; `standing`: it tells how things stand."""
    more = ',"snapshot":true' if is_snapshot else ""
    data = f'{entry.data[:-1]},"seq":{entry.seq},"time":{entry.time}{more}}}'
    return f"event: {channel.name}\ndata: {data}\n".encode()


def ws_frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """A whole WebSocket message in one frame, unmasked as a server's are."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65_536:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8) + payload


def ws_message(**words: object) -> bytes:
    """Any other WebSocket message, framed."""
    return ws_frame(msgspec.json.encode(words))


def http_chunk(body: bytes) -> bytes:
    """A part of an answer whose length nobody knows (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(body), body)
