"""`/v1/stream/history`: what was told after a cursor, for who would rather ask than listen."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from services.api.candles.candle_query import MOST, one, whole
from services.api.courses_query import asked_of
from services.api.streams import cursor
from services.api.streams.channels import Channel, Channels
from services.api.streams.schemas import HistoryQuestion
from services.core.errors import BadRange
from services.core.journal import Entry
from services.core.markets import Market
from services.ports import Journal
from services.web import Answer, Headers, Kept

USUAL = 500  # events in one answer
READ = 10_000  # that are read for it, of all its logs
HEADERS: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"vary", b"Origin")]


class Part(NamedTuple):
    """One log of one channel, read from a number on. `lost`: what came after it is not known."""

    channel: Channel
    position: int
    entries: Sequence[Entry]
    lost: bool


class History:
    """Answers from the journal."""

    def __init__(self, journal: Journal, channels: Channels, market: Market) -> None:
        self._journal, self._channels, self._market = journal, channels, market

    def __call__(self, query: bytes, headers: Mapping[bytes, bytes]) -> Answer | None:
        """Nothing is ready."""
        return None

    async def wait(self, query: bytes, headers: Mapping[bytes, bytes]) -> Answer:
        """The events. Raises KursError."""
        words = asked_of(query, HistoryQuestion)
        channels = await self._channels.all(words.get("channels", ()))
        after = cursor.parsed(cursor.asked(query), channels, self._market)
        count = sum(len(channel.logs) for channel in channels)
        most = whole({"limit": [one(words, "limit")]}, "limit", MOST) or min(USUAL, READ // count)
        if most * count > READ:
            raise BadRange(f"limit: {most} of {count} logs are more than {READ} to read: write limit={READ // count}")
        parts = [
            await self._part(channel, log, place, most)
            for channel in channels
            for log, place in zip(channel.logs, after.get(channel) or [0] * len(channel.logs), strict=True)
        ]
        return Kept(_body(parts, most), HEADERS).answer(headers)

    async def _part(self, channel: Channel, log: str, place: int, most: int) -> Part:
        entries = await self._journal.after(log, place, most)
        if entries is None:
            (newest,) = await self._journal.newest(log)
            return Part(channel, newest.number if newest else 0, (), lost=True)
        return Part(channel, place, entries, lost=False)


def _body(parts: Sequence[Part], most: int) -> bytes:
    """The oldest `most` events of all parts, and the cursor behind them."""
    told = sorted(
        (entry.number, place, entry)
        for place, part in enumerate(parts)
        for entry in part.entries
        if part.channel.key in ("", entry.key)
    )[:most]
    last = told[-1][0] if len(told) == most else 2**63
    positions = [max([p.position, *(e.number for e in p.entries if e.number <= last)]) for p in parts]
    rows = ",".join(
        f'{{"channel":{_json(parts[place].channel.name)},"data":{entry.data},"seq":{number},"time":{entry.time}}}'
        for number, place, entry in told
    )
    lost = list(dict.fromkeys(part.channel.name for part in parts if part.lost))
    return f'{{"events":[{rows}],"cursor":"{",".join(map(str, positions))}","reset":{_json(lost)}}}'.encode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
