"""How the two protocols say the same things."""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from services.api.streams.channels import Channel
from services.api.streams.client import StreamClient
from services.api.streams.encoding import EncodedUpdate, http_chunk, sse_event, ws_frame, ws_message, ws_snapshot
from services.api.streams.topics import Subscription
from services.core.journal import JournalEntry
from services.core.model import SeriesProgress
from services.web import CLOSE_TOO_SLOW

HEARTBEAT_SECONDS, SSE_COMMENT_SECONDS = 30, 15
KEEPALIVE_SECONDS = 2  # in which something is sent even so: a proxy soon sees that a replica hangs
CLOSE_OPCODE, PONG_OPCODE = 0x8, 0xA  # opcodes
CLOSE_RESTART = 4000  # a closing code, beside those of the protocol
GOING_AWAY_REASON, TOO_SLOW_REASON = "this replica stops: connect again", "nothing was read for too long: connect again"


class WebSocketEncoder:
    """WebSocket messages."""

    name = "websocket"

    def update(self, _client: StreamClient, slot: Subscription, news: EncodedUpdate) -> bytes:
        """Something changed."""
        return news.frame(slot.channel)

    def snapshot(self, _client: StreamClient, slot: Subscription, entry: JournalEntry) -> bytes:
        """How something stands."""
        return ws_snapshot(slot.channel, entry)

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """What was left out."""
        return ws_message(type=kind, channels=channels, reason=reason)

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """How far a series is loaded."""
        return ws_message(type="loading", channel=channel.name, **channel.labels, **_progress_fields(progress))

    def heartbeat(self, second: int) -> bytes:
        """A heartbeat; in between a pong that nobody asked for, which clients pass over (RFC 6455, 5.5.3)."""
        if (second + 1) % HEARTBEAT_SECONDS:
            return b"" if (second + 1) % KEEPALIVE_SECONDS else PONG_FRAME
        return ws_message(type="heartbeat", time=time.time_ns() // 1_000_000)

    def goodbye(self, slow: bool) -> bytes:
        """The closing frame."""
        return close_frame(CLOSE_TOO_SLOW, TOO_SLOW_REASON) if slow else close_frame(CLOSE_RESTART, GOING_AWAY_REASON)


class SseEncoder:
    """Server-sent events, each with the cursor of all that its client follows as its id. `part`: how they are sent."""

    name = "sse"

    def __init__(self, part: Callable[[bytes], bytes]) -> None:
        self._frame_chunk = part

    def update(self, client: StreamClient, slot: Subscription, news: EncodedUpdate) -> bytes:
        """Something changed."""
        return self._event(news.event(slot.channel), client)

    def snapshot(self, client: StreamClient, slot: Subscription, entry: JournalEntry) -> bytes:
        """How something stands."""
        return self._event(sse_event(slot.channel, entry, is_snapshot=True), client)

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """What was left out."""
        return self._notice_event(kind, {"channels": channels, "reason": reason})

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """How far a series is loaded."""
        return self._notice_event("loading", {"channel": channel.name, **channel.labels, **_progress_fields(progress)})

    def heartbeat(self, second: int) -> bytes:
        """A comment."""
        if (second + 1) % SSE_COMMENT_SECONDS:
            return b"" if (second + 1) % KEEPALIVE_SECONDS else self._frame_chunk(b":\n")
        return self._frame_chunk(b": beat\n")

    def goodbye(self, slow: bool) -> bytes:
        """A last event, and the end of the answer."""
        return self._notice_event(
            "closing", {"reason": TOO_SLOW_REASON if slow else GOING_AWAY_REASON}
        ) + self._frame_chunk(b"")

    def _event(self, said: bytes, client: StreamClient) -> bytes:
        """The id comes last: some clients take it before the event is whole, and never ask again for one cut off."""
        return self._frame_chunk(b"%bid: %b\n\n" % (said, client.cursor.encode()))

    def _notice_event(self, kind: str, words: Mapping[str, object]) -> bytes:
        return self._frame_chunk(b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(words)))


def close_frame(code: int, reason: str) -> bytes:
    """A closing frame."""
    return ws_frame(code.to_bytes(2) + reason.encode(), CLOSE_OPCODE)


def _progress_fields(progress: SeriesProgress | None) -> dict[str, object]:
    if progress is None:
        return {"done": True}
    available = progress.expected - progress.missing
    return {
        "done": False,
        "expected": progress.expected or None,  # nobody has looked yet
        "available": available if progress.expected else None,
        "reason": progress.reason or None,
    }


PONG_FRAME = ws_frame(b"", PONG_OPCODE)
WEBSOCKET, SSE, SSE_UNCHUNKED = WebSocketEncoder(), SseEncoder(http_chunk), SseEncoder(bytes)  # HTTP/1.0 has no chunks
