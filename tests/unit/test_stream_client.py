"""The states of a stream's client, on a transport that the test fills and drains."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import NamedTuple

from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryJournal
from services.api.components import ApiComponents
from services.api.streams.client import StreamClient
from services.api.streams.client_state import ClientState
from services.api.streams.encoders import WEBSOCKET
from services.api.streams.output import MAX_BUFFERED_BYTES
from services.core.journal import JournalEntry, to_entry
from services.core.model import Bar, Candle, CandleSource, Instrument, Position, Series
from services.exchanges import configured_exchanges
from services.hub import Hub
from services.settings import Settings
from services.web import DirectWriter
from tests.deps import make_deps
from tests.recording_transport import RecordingTransport
from tests.waiting import eventually

CANDLES = "candles:BTCUSDT:1m"
FIRST = 1_795_392_000_000_000  # even, as the seqs of the live market are


class SubscribedClient(NamedTuple):
    """A client that has subscribed to candles, and the bus and journal that it reads."""

    client: StreamClient
    connection: RecordingTransport
    hub: Hub
    journal: MemoryJournal

    def deliver(self, number: int) -> None:
        """Deliver an entry over the bus."""

        self.hub.apply(candle(number))

    async def save(self, *numbers: int) -> None:
        await self.journal.append(*map(entry, numbers))

    def closes(self) -> list[int]:
        """The closes that were sent, in their order."""
        return [int(part.split(b",")[0]) for part in self.connection.written.split(b'"close":')[1:]]


def candle(number: int) -> Candle:
    price, seq = Decimal(number), FIRST + 2 * number
    bar = Bar(FIRST // 1000, price, price, price, price, price, price, 1)
    series = Series("binance", Instrument("BTC", "USDT"), "1m")
    return Candle(series, bar, False, CandleSource.TRADES, 0, Position(seq, seq - 2), published=1)


def entry(number: int) -> JournalEntry:
    message = candle(number)
    assert message.position
    return to_entry(message, message.position)


@asynccontextmanager
async def subscribed_client() -> AsyncIterator[SubscribedClient]:
    """A client whose snapshot is the candle 1."""
    settings, hub, journal = Settings(_env_file=None), Hub(SystemClock()), MemoryJournal()
    deps = make_deps(settings, hub=hub, exchanges=configured_exchanges(settings), journal=journal)
    streams = ApiComponents(deps).streams
    await journal.append(entry(1))
    hub.apply(candle(1))
    connection = RecordingTransport()
    with streams.broadcaster.connect(DirectWriter(connection), WEBSOCKET) as client:
        assert client.state.name == "SYNCING"
        await client.subscribe(await streams.resolver.resolve_all([CANDLES]), {})
        yield SubscribedClient(client, connection, hub, journal)
    assert client.state.name == "CLOSED"


async def test_live_client_gets_each_entry_at_once() -> None:
    async with subscribed_client() as subscribed:
        for number in (2, 3):
            subscribed.deliver(number)
            assert (subscribed.client.state, subscribed.closes()[-1]) == (ClientState.LIVE, number)


async def test_client_catches_up_after_a_lost_entry_and_returns_to_live() -> None:
    async with subscribed_client() as subscribed:
        await subscribed.save(2, 3)
        subscribed.deliver(3)
        assert subscribed.client.state is ClientState.CATCHING_UP
        subscribed.deliver(4)
        await subscribed.save(4)
        await eventually(lambda: subscribed.client.state is ClientState.LIVE)
        assert subscribed.closes() == [1, 2, 3, 4]


async def test_slow_client_skips_entries_until_it_has_read() -> None:
    async with subscribed_client() as subscribed:
        subscribed.connection.unread = MAX_BUFFERED_BYTES + 1
        for number in (2, 3, 4):
            subscribed.deliver(number)
        assert (subscribed.client.state, subscribed.closes()) == (ClientState.SLOW, [1, 2])
        subscribed.connection.unread = 0
        await eventually(lambda: subscribed.client.state is ClientState.LIVE)
        assert subscribed.closes() == [1, 2, 4]
        assert b'"skipped"' in subscribed.connection.written


async def test_closed_client_is_sent_nothing_more() -> None:
    async with subscribed_client() as subscribed:
        subscribed.client.send_going_away()
        assert (subscribed.client.state, subscribed.connection.closed) == (ClientState.CLOSED, True)
        written = subscribed.connection.written
        subscribed.deliver(2)
        subscribed.client.heartbeat(29)
        subscribed.client.send_loading()
        subscribed.client.catch_up()
        assert (subscribed.client.state, subscribed.connection.written) == (ClientState.CLOSED, written)
