"""Ports: what services need of the outside. Adapters implement these protocols without inheriting from them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from services.account_ports import AccountStore, NoAccountStore
from services.core.analysis import Analysis
from services.core.coverage import SeriesCoverage
from services.core.dead_letters import DeadLetter
from services.core.exchange import Exchange
from services.core.journal import JournalEntry
from services.core.minute_builder import TradeCursor
from services.core.model import (
    ActiveExchange,
    Candle,
    CandleGap,
    CandleGapState,
    ExchangeStatus,
    FeedGap,
    HighPriorityTask,
    HistoryRequest,
    IndicatorRequest,
    IndicatorValue,
    Kline,
    Message,
    NormalPriorityTask,
    Quote,
    Rate,
    Series,
    StoreQuery,
    StoreReply,
    TaskChange,
    Trade,
)
from services.core.quotas import AttemptRule, AttemptState
from services.core.seals import Seal
from services.core.trading_rules import TradingRules
from services.hub import Hub
from services.leases import Lease
from services.settings import Settings

Kinds = tuple[type[Message], ...]

# Every work queue with its kinds of messages. A bus declares all of them before the first message is published: a queue
# declared at its worker's first start would lack what was published before.
QUEUES: Mapping[str, Kinds] = {
    "writer": (Trade, Kline, CandleGap, FeedGap),
    "tasks.high": (HighPriorityTask,),
    "tasks.normal": (NormalPriorityTask,),
}
# Published again within seconds, so the broker does not confirm each.
UNCONFIRMED_KINDS: Kinds = (
    Quote,
    Rate,
    ExchangeStatus,
    ActiveExchange,
    IndicatorRequest,
    HistoryRequest,
    StoreQuery,
    StoreReply,
    TaskChange,
)
LOOKUP_TIMEOUT_SECONDS = 10  # to the reply to a StoreQuery, also while the writer saves a long batch
MAX_DELIVERIES = 20  # of one message before it becomes a dead letter


class Clock(Protocol):
    """Time. Tests have clocks that they set."""

    def now(self) -> int:
        """Return milliseconds since the epoch, UTC, for stamps of messages. The clock may be set at any time."""

    def monotonic(self) -> int:
        """Return milliseconds of a clock that is never set, for ages and waits. Other processes cannot interpret it."""

    async def sleep(self, seconds: float) -> None:
        """Sleep that long."""


class Bus(Protocol):
    """Messages between services."""

    async def publish(self, *messages: Message) -> None:
        """Publish messages, in order per partition. When this returns, the bus has them.

        Messages of `UNCONFIRMED_KINDS` may still be on their way. Messages of one kind may travel in one batch. Raises
        Unavailable when the bus does not take them.
        """

    def subscribe(self, *kinds: type[Message]) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """Subscribe to all messages of these kinds from now on. A slow subscriber loses the oldest."""

    def consume(
        self, queue: str, *kinds: type[Message], size: int = 500, exclusive: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Message]]]:
        """Consume batches of up to `size` messages as one of the workers of `queue`. No message is lost.

        A batch is acked when the next one is taken or the block ends normally, and requeued when the block ends with an
        exception. A message may be delivered twice, and a requeued one is delivered alone. One that cannot be decoded,
        or was delivered `MAX_DELIVERIES` times, becomes a dead letter. `exclusive`: wait until no other process
        consumes the queue. Raises ValueError for a queue that is not in `QUEUES` with exactly these kinds.
        """

    def hold_role(self, role: str, on_wait: Callable[[str], None]) -> AbstractAsyncContextManager[Lease]:
        """Hold a role as soon as no other process on this bus does; `on_wait` is called with its holder's name.

        Once the lease is lost, another process may hold the role.
        """

    def take_dead_letters(self, queue: str, now: int) -> AbstractAsyncContextManager[Sequence[DeadLetter]]:
        """Take some dead letters of `queue`. The bus deletes them when the block ends normally."""

    async def queue_depth(self, queue: str) -> int:
        """Return about how many messages of a work queue wait for a worker."""

    async def ping(self) -> None:
        """Check that a message passes. Raises Unavailable."""

    async def close(self) -> None:
        """End what is open."""


class Cache(Protocol):
    """Current values, shared by all processes and rebuilt from the bus when lost."""

    async def put_latest(self, *items: Rate | ExchangeStatus | ActiveExchange) -> None:
        """Cache the newest of each: a rate per direction, a status per exchange, the active exchange."""

    async def rates(self) -> list[Rate]:
        """Return the last rate of each direction."""

    async def exchange_statuses(self) -> list[ExchangeStatus]:
        """Return the last status of each exchange."""

    async def active_exchange(self) -> ActiveExchange | None:
        """Return the active exchange."""

    async def increment(self, window: str, ttl_seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Add `counts` to the shared counters of `window`, which expire after `ttl_seconds`. Return the totals."""

    async def add_recent(self, quota: str, counts: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        """Add to the requests of these clients that count at a quota: now, and until `COUNTED_MS` from now at most.

        A negative number takes the newest ones back. Return what counts for each client: pairs of the ms for which
        it still does, and a count; oldest first.
        """

    async def attempt(self, rules: Mapping[str, AttemptRule]) -> dict[str, AttemptState]:
        """Count an attempt under each key at once, unless one of them has to wait: then under none."""

    async def forgive(self, *keys: str) -> None:
        """Take back the failure that an attempt counts as, under each key."""

    async def get(self, *keys: str) -> list[bytes | None]:
        """Return the bodies under these keys, None where there is none."""

    async def set(self, key: str, body: bytes, ttl_seconds: int) -> None:
        """Cache a body (UTF-8) under a key."""

    async def take(self, key: str) -> bytes | None:
        """Return the body under a key and delete it. Of several callers at once one gets it."""

    async def delete(self, *keys: str) -> None:
        """Delete the bodies under these keys."""

    async def ping(self) -> None:
        """Raises Unavailable."""

    async def close(self) -> None:
        """End what is open."""


class Journal(Protocol):
    """The newest entries of each topic, from which clients resume."""

    async def append(self, *entries: JournalEntry) -> None:
        """Append entries, and drop the oldest of a topic. An entry not newer than the last of its topic is ignored.

        All topics together stay below a number of bytes.
        """

    def retain(self, topic: str) -> None:
        """Retain enough of a topic for a client to resume, for ten minutes."""

    async def read_after(self, topic: str, seq: int, limit: int) -> list[JournalEntry] | None:
        """Return the first `limit` entries after `seq`, oldest first. 0: from the oldest entry without a gap after it.

        None: entries after `seq` are missing.
        """

    async def latest(self, *topics: str) -> list[JournalEntry | None]:
        """Return the last entry of each topic, None for one without entries."""

    async def ping(self) -> None:
        """Raises Unavailable."""

    async def close(self) -> None:
        """End what is open."""


class CandleReader(Protocol):
    """The store's queries that a collector needs, to know what to fetch."""

    async def candles(self, series: Series, since: int, until: int, limit: int | None = None) -> list[Candle]:
        """Return candles with open times in [since, until], oldest first, also the forming one; the first `limit`."""

    async def missing_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Return ranges of open times in [since, until], both ends inclusive, without a closed candle."""

    async def unconfirmed_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Return ranges of open times of closed candles built from trades and not confirmed by a kline."""

    async def candle_gaps(self, state: CandleGapState, series: Series | None = None) -> list[CandleGap]:
        """Return all candle gaps in that state, or those of one series."""


class Store(CandleReader, Protocol):
    """What is stored for good."""

    async def save(
        self,
        *items: Rate
        | FeedGap
        | Candle
        | CandleGap
        | Seal
        | TradeCursor
        | IndicatorValue
        | Analysis
        | TradingRules
        | DeadLetter,
    ) -> None:
        """Save the newest rate of each direction, every feed gap once, and everything else as given: all or nothing.

        An item replaces the one of the same key; an equal item changes nothing.

        Raises Unavailable when the store is unreachable, full, read-only or slow. Any other exception is about these
        items.
        """

    async def candles(
        self, series: Series, since: int, until: int, limit: int | None = None, *, forming_since: int | None = None
    ) -> list[Candle]:
        """Return candles with open times in [since, until], oldest first, also the forming one; the first `limit`.

        Candles that are not closed are left out if they opened before `forming_since`.
        """

    async def candle_gaps(
        self, state: CandleGapState, series: Series | None = None, limit: int | None = None
    ) -> list[CandleGap]:
        """Return all candle gaps in that state, or those of one series; the newest `limit`."""

    async def latest_candles(
        self, series: Series, until: int, count: int, *, forming_since: int | None = None
    ) -> list[Candle]:
        """Return the newest `count` candles with open times up to `until`, oldest first; `forming_since` as above."""

    async def series(self) -> dict[Series, tuple[int, int]]:
        """Return every stored series with its first and last open time."""

    async def coverage(self, series: Series, since: int, until: int) -> SeriesCoverage:
        """Return which closed candles with open times in [since, until] are stored."""

    async def candle_gaps_within(self, series: Series, since: int, until: int) -> list[CandleGap]:
        """Return candle gaps of a series that overlap [since, until], oldest first."""

    async def cursors(self) -> list[TradeCursor]:
        """Return the last trade built into the candles of each series."""

    async def seals(self, series: Series, since: int, until: int) -> list[Seal]:
        """Return the newest revision of the seals of days in [since, until], oldest first."""

    async def indicator_values(self, series: Series, since: int, until: int) -> list[IndicatorValue]:
        """Return indicator values at closed candles with open times in [since, until], oldest first."""

    async def analyses(self, series: Series, since: int, until: int) -> list[Analysis]:
        """Return analyses of closed candles with open times in [since, until], oldest first."""

    async def trading_rules(self, exchange: str | None = None) -> list[TradingRules]:
        """Return the trading rules of one exchange or of all, in the order of exchange and symbol."""

    async def delete_derived(self, series: Series, since: int, until: int) -> None:
        """Delete indicator values and analyses of candles with open times in [since, until]."""

    async def delete_indicator_values(self, series: Series) -> None:
        """Delete all indicator values of a series, but no analyses."""

    async def delete_candles(self, series: Series, since: int) -> int:
        """Delete candles with open times from `since` on, and everything derived from them. Return how many."""

    async def rates(self) -> list[Rate]:
        """Return the last known rate of each direction."""

    async def feed_gaps(self, since: int, until: int) -> list[FeedGap]:
        """Return feed gaps that overlap [since, until], oldest first."""

    async def check_writable(self) -> None:
        """Check that saving works: by the outcome of the last saves, otherwise by a write. Raises Unavailable."""

    def hold_role(self, role: str, on_wait: Callable[[str], None], elected: bool) -> AbstractAsyncContextManager[Lease]:
        """Hold a role as soon as no other process on this database does, as `Bus.hold_role`.

        `elected`: this process holds the role on the bus. A process that was elected before and still holds it here
        hangs, and its sessions are ended.
        """

    async def check(self) -> None:
        """Check that the database has this version's schema and this market.

        Raises Unavailable, and Refused where waiting does not help.
        """

    async def dead_letters(self, replay: bool = False) -> list[DeadLetter]:
        """Return dead letters, oldest first; with `replay` only those to be published again."""

    async def count_dead_letters(self) -> int:
        """Return the number of dead letters."""

    async def request_replay(self, *ids: str) -> None:
        """Mark dead letters to be published again by the writer."""

    async def drop_dead_letters(self, *ids: str, replayed: bool = False) -> None:
        """Delete dead letters; with `replayed` only those marked for publishing that have not come back since."""

    async def ping(self) -> None:
        """Raises Unavailable."""

    async def close(self) -> None:
        """End what is open."""


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The ports of one process, given to its jobs and routes."""

    settings: Settings
    clock: Clock
    bus: Bus
    cache: Cache
    store: Store
    hub: Hub
    exchanges: tuple[Exchange, ...]
    journal: Journal
    accounts: AccountStore = field(default_factory=NoAccountStore)
