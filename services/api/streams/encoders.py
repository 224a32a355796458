"""How the two protocols say the same things."""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from services.api.streams.channels import Channel
from services.api.streams.client import Client
from services.api.streams.encoding import News, chunk, event, framed, said, snapshot
from services.api.streams.topics import Slot
from services.core.journal import Entry
from services.core.model import SeriesProgress
from services.web import TOO_SLOW

HEARTBEAT_SECONDS, COMMENT_SECONDS = 30, 15
PULSE_SECONDS = 2  # in which something is sent even so: a proxy soon sees that a replica hangs
CLOSE, PONG = 0x8, 0xA  # opcodes
RESTART = 4000  # a closing code, beside those of the protocol
STOPS, SLOW = "this replica stops: connect again", "nothing was read for too long: connect again"


class Frames:
    """WebSocket messages."""

    name = "websocket"

    def update(self, _client: Client, slot: Slot, news: News) -> bytes:
        """Something changed."""
        return news.frame(slot.channel)

    def standing(self, _client: Client, slot: Slot, entry: Entry) -> bytes:
        """How something stands."""
        return snapshot(slot.channel, entry)

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """What was left out."""
        return said(type=kind, channels=channels, reason=reason)

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """How far a series is loaded."""
        return said(type="loading", channel=channel.name, **channel.words, **_loaded(progress))

    def beat(self, second: int) -> bytes:
        """A heartbeat; in between a pong that nobody asked for, which clients pass over (RFC 6455, 5.5.3)."""
        if (second + 1) % HEARTBEAT_SECONDS:
            return b"" if (second + 1) % PULSE_SECONDS else PULSE
        return said(type="heartbeat", time=time.time_ns() // 1_000_000)

    def closing(self, slow: bool) -> bytes:
        """The closing frame."""
        return closed(TOO_SLOW, SLOW) if slow else closed(RESTART, STOPS)


class Events:
    """Server-sent events, each with the cursor of all that its client follows as its id. `part`: how they are sent."""

    name = "sse"

    def __init__(self, part: Callable[[bytes], bytes]) -> None:
        self._part = part

    def update(self, client: Client, slot: Slot, news: News) -> bytes:
        """Something changed."""
        return self._event(news.event(slot.channel), client)

    def standing(self, client: Client, slot: Slot, entry: Entry) -> bytes:
        """How something stands."""
        return self._event(event(slot.channel, entry, standing=True), client)

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """What was left out."""
        return self._told(kind, {"channels": channels, "reason": reason})

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """How far a series is loaded."""
        return self._told("loading", {"channel": channel.name, **channel.words, **_loaded(progress)})

    def beat(self, second: int) -> bytes:
        """A comment."""
        if (second + 1) % COMMENT_SECONDS:
            return b"" if (second + 1) % PULSE_SECONDS else self._part(b":\n")
        return self._part(b": beat\n")

    def closing(self, slow: bool) -> bytes:
        """A last event, and the end of the answer."""
        return self._told("closing", {"reason": SLOW if slow else STOPS}) + self._part(b"")

    def _event(self, said: bytes, client: Client) -> bytes:
        """The id comes last: some clients take it before the event is whole, and never ask again for one cut off."""
        return self._part(b"%bid: %b\n\n" % (said, client.cursor.encode()))

    def _told(self, kind: str, words: Mapping[str, object]) -> bytes:
        return self._part(b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(words)))


def closed(code: int, reason: str) -> bytes:
    """A closing frame."""
    return framed(code.to_bytes(2) + reason.encode(), CLOSE)


def _loaded(progress: SeriesProgress | None) -> dict[str, object]:
    if progress is None:
        return {"done": True}
    available = progress.expected - progress.missing
    return {
        "done": False,
        "expected": progress.expected or None,  # nobody has looked yet
        "available": available if progress.expected else None,
        "reason": progress.reason or None,
    }


PULSE = framed(b"", PONG)
FRAMES, EVENTS, OLD_EVENTS = Frames(), Events(chunk), Events(bytes)  # HTTP/1.0 has no chunks
