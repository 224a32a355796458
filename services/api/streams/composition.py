"""Connects the parts of the live streams with each other and with the hub."""

from typing import NamedTuple

from services.api.backfill_status import BackfillStatus
from services.api.candles.served_candles import ServedCandles
from services.api.candles.symbol_catalog import SymbolCatalog
from services.api.streams.admission import ConnectionLimiter
from services.api.streams.broadcaster import Broadcaster
from services.api.streams.channel_resolver import ChannelResolver
from services.api.streams.client import StreamClient, StreamSources
from services.api.streams.demand import ChannelDemand
from services.api.streams.journal_reader import JournalReader
from services.api.streams.loading import LoadingProgress
from services.api.streams.maintenance import Maintenance
from services.api.streams.snapshots import SnapshotSource
from services.api.streams.task_feed import TaskFeed
from services.api.streams.topics import Topics
from services.ports import Deps


class LiveStreams(NamedTuple):
    """What the endpoints and the job of the streams use."""

    broadcaster: Broadcaster
    resolver: ChannelResolver
    connections: ConnectionLimiter
    demand: ChannelDemand
    maintenance: Maintenance
    tasks: TaskFeed


def compose_streams(deps: Deps, symbols: SymbolCatalog, backfill: BackfillStatus) -> LiveStreams:
    """Return the live streams of one replica. The hub calls the broadcaster from now on."""
    hub, clock = deps.hub, deps.clock
    topics = Topics[StreamClient]()
    snapshots = SnapshotSource(hub, clock, ServedCandles(deps.store, hub))
    tasks = TaskFeed(deps)
    sources = StreamSources(topics, JournalReader(deps.journal), snapshots, LoadingProgress(backfill), tasks)
    broadcaster = Broadcaster(sources, clock)
    hub.on_sequenced(broadcaster.on_message)
    hub.on_close(broadcaster.close)
    demand = ChannelDemand(deps.bus, clock, backfill)
    return LiveStreams(
        broadcaster,
        ChannelResolver(deps.settings, symbols, topics.channels),
        ConnectionLimiter(deps.settings, broadcaster),
        demand,
        Maintenance(broadcaster, sources, demand, clock),
        tasks,
    )
