"""`/v1/stream/history`: the entries after a cursor, for clients that poll."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from services.api.components import ApiComponents
from services.api.streams import cursor, schemas
from services.api.streams.channels import Channel
from services.api.streams.schemas import StreamHistoryQuery
from services.core.errors import BadRange, BadRequest
from services.core.journal import JournalEntry
from services.web import Content, Endpoint
from services.web.quota_policies import STREAMS

DEFAULT_EVENTS = 500  # in one response
MAX_ENTRIES_READ = 10_000  # for one response, of all its topics
STREAM_HISTORY = Endpoint(
    path="/v1/stream/history",
    limit=STREAMS,
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
    """Entries of one topic after a position. `expired`: the journal no longer has those after it."""

    channel: Channel
    position: int
    entries: Sequence[JournalEntry]
    expired: bool


class StreamHistoryHandler:
    """Responses from the journal."""

    def __init__(self, parts: ApiComponents) -> None:
        self._journal, self._resolver, self._market = parts.deps.journal, parts.streams.resolver, parts.deps.hub.market

    @STREAM_HISTORY.handler
    async def history(self, query: StreamHistoryQuery) -> Content:
        """Return the events. Raises KursError."""
        channels = await self._resolver.resolve_all(query.channels)
        if personal := [channel.name for channel in channels if channel.scope]:
            raise BadRequest(f"the channel {personal[0]} has no history: read /v1/tasks")
        positions = cursor.parse(query.after, channels, self._market)
        count = sum(len(channel.topics) for channel in channels)
        limit = query.limit or min(DEFAULT_EVENTS, MAX_ENTRIES_READ // count)
        if limit * count > MAX_ENTRIES_READ:
            raise BadRange(
                f"limit: {limit} of {count} topics are more than {MAX_ENTRIES_READ} entries to read: "
                f"write limit={MAX_ENTRIES_READ // count}"
            )
        pages = [
            await self._read_topic(channel, topic, position, limit)
            for channel in channels
            for topic, position in zip(channel.topics, positions.get(channel) or [0] * len(channel.topics), strict=True)
        ]
        return Content(_body(pages, limit))

    async def _read_topic(self, channel: Channel, topic: str, position: int, limit: int) -> TopicPage:
        entries = await self._journal.read_after(topic, position, limit)
        if entries is None:
            (newest,) = await self._journal.latest(topic)
            return TopicPage(channel, newest.seq if newest else 0, (), expired=True)
        return TopicPage(channel, position, entries, expired=False)


def _body(pages: Sequence[TopicPage], limit: int) -> bytes:
    """Return the oldest `limit` events of all pages, and the cursor after them."""
    events = sorted(
        (entry.seq, index, entry)
        for index, page in enumerate(pages)
        for entry in page.entries
        if page.channel.key in ("", entry.key)
    )[:limit]
    last = events[-1][0] if len(events) == limit else 2**63
    positions = [max([page.position, *(e.seq for e in page.entries if e.seq <= last)]) for page in pages]
    rows = ",".join(
        f'{{"channel":{_json(pages[index].channel.name)},"data":{entry.data},"seq":{seq},"time":{entry.time}}}'
        for seq, index, entry in events
    )
    expired = list(dict.fromkeys(page.channel.name for page in pages if page.expired))
    return f'{{"events":[{rows}],"cursor":"{",".join(map(str, positions))}","reset":{_json(expired)}}}'.encode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
