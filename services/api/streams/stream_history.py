"""`/v1/stream/history`: what was told after a cursor, for who would rather ask than listen."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from services.api.candles.candle_query import MAX_CANDLES, integer, single
from services.api.courses_query import checked_params
from services.api.streams import cursor
from services.api.streams.channels import Channel, ChannelRegistry
from services.api.streams.schemas import HistoryQuestion
from services.core.errors import BadRange
from services.core.journal import JournalEntry
from services.core.markets import Market
from services.ports import Journal
from services.web import CachedResponse, Headers, RawResponse

DEFAULT_EVENTS = 500  # events in one answer
MAX_ENTRIES_READ = 10_000  # that are read for it, of all its logs
HEADERS: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"vary", b"Origin")]


class TopicPage(NamedTuple):
    """One log of one channel, read from a number on. `lost`: what came after it is not known."""

    channel: Channel
    position: int
    entries: Sequence[JournalEntry]
    expired: bool


class StreamHistoryHandler:
    """Answers from the journal."""

    def __init__(self, journal: Journal, channels: ChannelRegistry, market: Market) -> None:
        self._journal, self._channels, self._market = journal, channels, market

    def __call__(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse | None:
        """Nothing is ready."""
        return None

    async def wait(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse:
        """The events. Raises KursError."""
        words = checked_params(query, HistoryQuestion)
        channels = await self._channels.resolve_all(words.get("channels", ()))
        after = cursor.parse(cursor.from_query(query), channels, self._market)
        count = sum(len(channel.topics) for channel in channels)
        most = integer({"limit": [single(words, "limit")]}, "limit", MAX_CANDLES) or min(
            DEFAULT_EVENTS, MAX_ENTRIES_READ // count
        )
        if most * count > MAX_ENTRIES_READ:
            raise BadRange(
                f"limit: {most} of {count} logs are more than {MAX_ENTRIES_READ} to read: "
                f"write limit={MAX_ENTRIES_READ // count}"
            )
        parts = [
            await self._read_topic(channel, log, place, most)
            for channel in channels
            for log, place in zip(channel.topics, after.get(channel) or [0] * len(channel.topics), strict=True)
        ]
        return CachedResponse(_body(parts, most), HEADERS).response_for(headers)

    async def _read_topic(self, channel: Channel, log: str, place: int, most: int) -> TopicPage:
        entries = await self._journal.read_after(log, place, most)
        if entries is None:
            (newest,) = await self._journal.latest(log)
            return TopicPage(channel, newest.seq if newest else 0, (), expired=True)
        return TopicPage(channel, place, entries, expired=False)


def _body(parts: Sequence[TopicPage], most: int) -> bytes:
    """The oldest `most` events of all parts, and the cursor behind them."""
    told = sorted(
        (entry.seq, place, entry)
        for place, part in enumerate(parts)
        for entry in part.entries
        if part.channel.key in ("", entry.key)
    )[:most]
    last = told[-1][0] if len(told) == most else 2**63
    positions = [max([p.position, *(e.seq for e in p.entries if e.seq <= last)]) for p in parts]
    rows = ",".join(
        f'{{"channel":{_json(parts[place].channel.name)},"data":{entry.data},"seq":{number},"time":{entry.time}}}'
        for number, place, entry in told
    )
    lost = list(dict.fromkeys(part.channel.name for part in parts if part.expired))
    return f'{{"events":[{rows}],"cursor":"{",".join(map(str, positions))}","reset":{_json(lost)}}}'.encode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
