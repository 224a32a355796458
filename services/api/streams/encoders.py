"""Messages as bytes: WebSocket frames (RFC 6455), and server-sent events in HTTP chunks."""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import msgspec

from services.api.streams.channels import Channel
from services.api.streams.cursor import Subscriptions, format_cursor
from services.api.streams.topics import Subscription
from services.core.journal import JournalEntry
from services.core.model import SeriesProgress
from services.web import CLOSE_RESTART, CLOSE_SIGNED_OUT, CLOSE_TOO_SLOW

HEARTBEAT_SECONDS, SSE_COMMENT_SECONDS = 30, 15
KEEPALIVE_SECONDS = 2  # between two empty messages: proxies and clients notice soon that a replica hangs
TEXT_OPCODE, CLOSE_OPCODE, PONG_OPCODE = 0x1, 0x8, 0xA


class Goodbye(Enum):
    """Why a replica ends a connection: the closing code of a WebSocket, and the reason of any protocol."""

    RESTART = CLOSE_RESTART, "this replica stops: connect again"
    TOO_SLOW = CLOSE_TOO_SLOW, "nothing was read for too long: connect again"
    SIGNED_OUT = CLOSE_SIGNED_OUT, "the sign-in or the API token has ended"


class EncodedUpdate:
    """An entry, encoded once for each channel and protocol, however many clients get it. Both are by channel name."""

    __slots__ = ("entry", "sse_events", "ws_frames")

    def __init__(self, entry: JournalEntry) -> None:
        self.entry = entry
        self.ws_frames: dict[str, bytes] = {}
        self.sse_events: dict[str, bytes] = {}

    def make_ws_frame(self, channel: Channel) -> bytes:
        """Encode it as a WebSocket frame."""
        frame = self.ws_frames[channel.name] = ws_update(channel, self.entry)
        return frame

    def make_sse_event(self, channel: Channel) -> bytes:
        """Encode it as an event without its id, which is the client's own."""
        event = self.sse_events[channel.name] = sse_event(channel, self.entry)
        return event


class Encoder(Protocol):
    """A protocol: messages as bytes that are ready to be sent. `all_subscriptions` are those of the client."""

    name: str

    def update(self, subscription: Subscription[Any], update: EncodedUpdate, all_subscriptions: Subscriptions) -> bytes:
        """Encode an entry."""

    def snapshot(self, subscription: Subscription[Any], entry: JournalEntry, all_subscriptions: Subscriptions) -> bytes:
        """Encode an entry as a channel's current value."""

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """Encode a `reset` or a `skipped`."""

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """Encode how much of a series' history is loaded; None: all of it is."""

    def unnumbered(self, channel: Channel, data: Mapping[str, object], *, is_snapshot: bool) -> bytes:
        """Encode a message of a person's own channel."""

    def heartbeat(self, second: int) -> bytes:
        """Encode what is due at a second of the connection's life; b"" if nothing is."""

    def goodbye(self, why: Goodbye) -> bytes:
        """Encode the end of the connection."""


class WebSocketEncoder:
    """WebSocket messages."""

    name = "websocket"

    def update(self, subscription: Subscription[Any], update: EncodedUpdate, _: Subscriptions) -> bytes:
        """Encode an entry."""
        channel = subscription.channel
        return update.ws_frames.get(channel.name) or update.make_ws_frame(channel)

    def snapshot(self, subscription: Subscription[Any], entry: JournalEntry, _: Subscriptions) -> bytes:
        """Encode a current value."""
        return ws_snapshot(subscription.channel, entry)

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """Encode a `reset` or a `skipped`."""
        return ws_message(type=kind, channels=channels, reason=reason)

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """Encode how much is loaded."""
        return ws_message(type="loading", channel=channel.name, **channel.labels, **_progress_fields(progress))

    def unnumbered(self, channel: Channel, data: Mapping[str, object], *, is_snapshot: bool) -> bytes:
        """Encode a message without `seq`."""
        kind = "snapshot" if is_snapshot else channel.message_type
        return ws_message(type=kind, channel=channel.name, data=data)

    def heartbeat(self, second: int) -> bytes:
        """Encode a heartbeat; between two of them unsolicited pongs, which clients ignore (RFC 6455, 5.5.3)."""
        if (second + 1) % HEARTBEAT_SECONDS:
            return b"" if (second + 1) % KEEPALIVE_SECONDS else PONG_FRAME
        return ws_message(type="heartbeat", time=time.time_ns() // 1_000_000)

    def goodbye(self, why: Goodbye) -> bytes:
        """Encode a close frame."""
        return close_frame(*why.value)


class SseEncoder:
    """Server-sent events, each with the client's cursor as its id.

    `frame_chunk` makes a part of the response body of an event, as the HTTP version wants it.
    """

    name = "sse"

    def __init__(self, frame_chunk: Callable[[bytes], bytes]) -> None:
        self._frame_chunk = frame_chunk

    def update(self, subscription: Subscription[Any], update: EncodedUpdate, all_subscriptions: Subscriptions) -> bytes:
        """Encode an entry."""
        channel = subscription.channel
        event = update.sse_events.get(channel.name) or update.make_sse_event(channel)
        return self._with_id(event, all_subscriptions)

    def snapshot(self, subscription: Subscription[Any], entry: JournalEntry, all_subscriptions: Subscriptions) -> bytes:
        """Encode a current value."""
        return self._with_id(sse_event(subscription.channel, entry, is_snapshot=True), all_subscriptions)

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """Encode a `reset` or a `skipped`."""
        return self._without_id(kind, {"channels": channels, "reason": reason})

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """Encode how much is loaded."""
        return self._without_id("loading", {"channel": channel.name, **channel.labels, **_progress_fields(progress)})

    def unnumbered(self, channel: Channel, data: Mapping[str, object], *, is_snapshot: bool) -> bytes:
        """Encode a message without an id, so that the cursor stays that of the other channels."""
        return self._without_id(channel.name, {**data, "snapshot": True} if is_snapshot else data)

    def heartbeat(self, second: int) -> bytes:
        """Encode a comment, an empty one between two others."""
        if (second + 1) % SSE_COMMENT_SECONDS:
            return b"" if (second + 1) % KEEPALIVE_SECONDS else self._frame_chunk(b":\n")
        return self._frame_chunk(b": beat\n")

    def goodbye(self, why: Goodbye) -> bytes:
        """Encode a last event and the end of the response."""
        _, reason = why.value
        return self._without_id("closing", {"reason": reason}) + self._frame_chunk(b"")

    def _with_id(self, event: bytes, subscriptions: Subscriptions) -> bytes:
        """The id is the last line: some clients store it before the event is complete, and would lose that event."""
        return self._frame_chunk(b"%bid: %b\n\n" % (event, format_cursor(subscriptions).encode()))

    def _without_id(self, kind: str, data: Mapping[str, object]) -> bytes:
        return self._frame_chunk(b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(data)))


def ws_update(channel: Channel, entry: JournalEntry) -> bytes:
    """Return the WebSocket frame of an entry."""
    return _ws_entry({"type": channel.message_type, **channel.labels}, entry)


def ws_snapshot(channel: Channel, entry: JournalEntry) -> bytes:
    """Return the WebSocket frame of a current value."""
    return _ws_entry({"type": "snapshot", "channel": channel.name, **channel.labels}, entry)


def _ws_entry(fields: Mapping[str, str], entry: JournalEntry) -> bytes:
    """The entry's data are JSON already, and stay as they are."""
    head = msgspec.json.encode(fields)[:-1].decode()
    return ws_frame(f'{head},"data":{entry.data},"seq":{entry.seq},"time":{entry.time}}}'.encode())


def ws_message(**fields: object) -> bytes:
    """Return the WebSocket frame of any other message."""
    return ws_frame(msgspec.json.encode(fields))


def ws_frame(payload: bytes, opcode: int = TEXT_OPCODE) -> bytes:
    """Return a whole WebSocket message in one frame, unmasked as a server's are."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65_536:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8) + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame."""
    return ws_frame(code.to_bytes(2) + reason.encode(), CLOSE_OPCODE)


def sse_event(channel: Channel, entry: JournalEntry, is_snapshot: bool = False) -> bytes:
    """Return the event of an entry without its id and its last line."""
    flag = ',"snapshot":true' if is_snapshot else ""
    data = f'{entry.data[:-1]},"seq":{entry.seq},"time":{entry.time}{flag}}}'
    return f"event: {channel.name}\ndata: {data}\n".encode()


def http_chunk(body: bytes) -> bytes:
    """Return a chunk of a response of unknown length (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def _progress_fields(progress: SeriesProgress | None) -> dict[str, object]:
    if progress is None:
        return {"done": True}
    available = progress.expected - progress.missing
    return {
        "done": False,
        "expected": progress.expected or None,  # 0: no collector has counted yet
        "available": available if progress.expected else None,
        "reason": progress.reason or None,
    }


PONG_FRAME = ws_frame(b"", PONG_OPCODE)
WEBSOCKET, SSE, SSE_UNCHUNKED = WebSocketEncoder(), SseEncoder(http_chunk), SseEncoder(bytes)  # HTTP/1.0: no chunks
