"""`/v1/stream/history`: the events of streams after a cursor, by request."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from services.api.components import ApiComponents
from services.api.streams import cursor, schemas
from services.api.streams.channels import Channel
from services.api.streams.schemas import StreamHistoryQuery
from services.core.errors import BadRange
from services.core.journal import JournalEntry
from services.web import Content, Endpoint

DEFAULT_EVENTS = 500  # events in one answer
MAX_ENTRIES_READ = 10_000  # that are read for it, of all its logs
STREAM_HISTORY = Endpoint(
    path="/v1/stream/history",
    query=StreamHistoryQuery,
    response=schemas.History,
    compress=False,
    cost=5,  # it reads the journal
    tag="streams",
    operation_id="stream_history",
    summary="Events after a cursor",
    description="The events of `/v1/stream` by request, with the same cursor.",
)


class TopicPage(NamedTuple):
    """One log of one channel, read from a number on. `lost`: what came after it is not known."""

    channel: Channel
    position: int
    entries: Sequence[JournalEntry]
    expired: bool


class StreamHistoryHandler:
    """Answers from the journal."""

    def __init__(self, parts: ApiComponents) -> None:
        self._journal, self._channels, self._market = parts.deps.journal, parts.streams.resolver, parts.deps.hub.market

    @STREAM_HISTORY.handler
    async def history(self, query: StreamHistoryQuery) -> Content:
        """Return the events. Raises KursError."""
        channels = await self._channels.resolve_all(query.channels)
        positions = cursor.parse(query.after, channels, self._market)
        count = sum(len(channel.topics) for channel in channels)
        most = query.limit or min(DEFAULT_EVENTS, MAX_ENTRIES_READ // count)
        if most * count > MAX_ENTRIES_READ:
            raise BadRange(
                f"limit: {most} of {count} topics are more than {MAX_ENTRIES_READ} entries to read: "
                f"write limit={MAX_ENTRIES_READ // count}"
            )
        pages = [
            await self._read_topic(channel, topic, position, most)
            for channel in channels
            for topic, position in zip(channel.topics, positions.get(channel) or [0] * len(channel.topics), strict=True)
        ]
        return Content(_body(pages, most))

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
