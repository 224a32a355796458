"""What services need of the outside, in the domain's words. Adapters meet these shapes and inherit nothing."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

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
    HistoryRequest,
    IndicatorRequest,
    IndicatorValue,
    Kline,
    Message,
    Quote,
    Rate,
    Series,
    StoreQuery,
    StoreReply,
    Trade,
)
from services.core.seals import Seal
from services.hub import Hub
from services.leases import Lease
from services.settings import Settings

Kinds = tuple[type[Message], ...]

# Every work queue and what it keeps. A bus makes them all before anybody publishes: a queue that came into being with
# its worker's first start would have lost what was sent before.
QUEUES: Mapping[str, Kinds] = {"writer": (Trade, Kline, CandleGap, FeedGap)}
# Said again within seconds: that one arrived need not be confirmed.
UNCONFIRMED_KINDS: Kinds = (
    Quote,
    Rate,
    ExchangeStatus,
    ActiveExchange,
    IndicatorRequest,
    HistoryRequest,
    StoreQuery,
    StoreReply,
)
LOOKUP_TIMEOUT_SECONDS = (
    10  # how long one who sent a StoreQuery waits for the reply, also while the writer saves a long batch
)
MAX_DELIVERIES = 20  # how often one message is tried before it is given up as dead


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def now(self) -> int:
        """Milliseconds since the epoch, UTC: what is stamped on a message. It may be set at any time, either way."""

    def monotonic(self) -> int:
        """Milliseconds of a clock that nobody sets: for ages and waits. It means nothing to another process."""

    async def sleep(self, seconds: float) -> None:
        """Let that time pass."""


class Bus(Protocol):
    """Messages between services."""

    async def publish(self, *messages: Message) -> None:
        """Hand messages over, in order per partition; they are the bus's when this returns.

        Those of kinds that are `REPEATED` are only on their way by then. Messages of one kind may travel together.
        Raises Unavailable when the bus does not take them.
        """

    def subscribe(self, *kinds: type[Message]) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """All messages of these kinds from now on. Everyone sees them; who falls behind loses the oldest."""

    def consume(
        self, queue: str, *kinds: type[Message], size: int = 500, exclusive: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Message]]]:
        """Batches of up to `size` messages, each to one worker of `queue`; nothing is lost.

        Taking the next batch settles the last, so does leaving in peace; leaving by an exception gives it back. A
        message may come twice, and what was given back comes alone. What cannot be decoded, or was delivered
        `DELIVERIES` times in vain, is set aside as dead. Raises ValueError for a queue that is not in `QUEUES` with
        just these kinds. Who works `alone` begins when no other process works on the queue.
        """

    def hold_role(self, role: str, on_wait: Callable[[str], None]) -> AbstractAsyncContextManager[Lease]:
        """Have a role, from when no other process on this bus has it; `waits` is told which one has.

        Once the lease is lost, another process may have it.
        """

    def take_dead_letters(self, queue: str, now: int) -> AbstractAsyncContextManager[Sequence[DeadLetter]]:
        """Some of what the bus has set aside of `queue`; it forgets them when they are left in peace."""

    async def queue_depth(self, queue: str) -> int:
        """About how many messages of a work queue wait for a worker."""

    async def ping(self) -> None:
        """Prove that messages pass. Raises Unavailable."""

    async def close(self) -> None:
        """End what is open."""


class Cache(Protocol):
    """What is current, shared by all processes and rebuilt from the bus when lost."""

    async def put_latest(self, *items: Rate | ExchangeStatus | ActiveExchange) -> None:
        """Keep the newest of each: a rate per direction, a state per exchange, the one choice."""

    async def rates(self) -> list[Rate]:
        """The last rate of each direction."""

    async def exchange_statuses(self) -> list[ExchangeStatus]:
        """The last state of each exchange."""

    async def active_exchange(self) -> ActiveExchange | None:
        """The exchange in use."""

    async def increment(self, window: str, ttl_seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Add `counts` to the shared counters of `window`, forgotten after `seconds`; answers the totals."""

    async def get(self, *keys: str) -> list[bytes | None]:
        """Answers that were kept under these keys, None where there is none."""

    async def set(self, key: str, body: bytes, ttl_seconds: int) -> None:
        """Keep an answer (UTF-8) under a key for so long."""

    async def delete(self, *keys: str) -> None:
        """Keep what is under these keys no longer."""

    async def ping(self) -> None:
        """Raises Unavailable."""

    async def close(self) -> None:
        """End what is open."""


class Journal(Protocol):
    """What was told of late, log by log, so that who missed some can read on."""

    async def append(self, *entries: JournalEntry) -> None:
        """Keep entries, the oldest of a log giving way; what is not newer than the last of its log is passed over.

        All logs together stay below a number of bytes.
        """

    def retain(self, topic: str) -> None:
        """Somebody follows this log: keep what a resume needs, for ten minutes."""

    async def read_after(self, topic: str, seq: int, limit: int) -> list[JournalEntry] | None:
        """The first `most` entries after `number`, oldest first. 0: from the oldest on after which nothing is missing.

        None: what came after that number is not known, or not all of it.
        """

    async def latest(self, *logs: str) -> list[JournalEntry | None]:
        """The last entry of each log."""

    async def ping(self) -> None:
        """Raises Unavailable."""

    async def close(self) -> None:
        """End what is open."""


class CandleReader(Protocol):
    """What a collector reads of the store, so as to know what to fetch."""

    async def candles(self, series: Series, since: int, until: int, limit: int | None = None) -> list[Candle]:
        """Candles with openings in [since, until], oldest first, the forming one too; the oldest `limit` of them."""

    async def missing_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Runs of openings in [since, until], both ends inclusive, without a closed candle."""

    async def unconfirmed_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Runs of openings of closed candles that no word of the exchange has confirmed: built from ticks."""

    async def candle_gaps(self, state: CandleGapState, series: Series | None = None) -> list[CandleGap]:
        """All holes in that state, or those of one series."""


class Store(CandleReader, Protocol):
    """What is kept for good."""

    async def save(
        self, *items: Rate | FeedGap | Candle | CandleGap | Seal | TradeCursor | IndicatorValue | Analysis | DeadLetter
    ) -> None:
        """Keep the newest rate of each direction, every gap once, and the rest as given: all or nothing.

        What has a key replaces the one of its key; the same again changes nothing.

        Raises Unavailable when the fault is the store's: it is away, full, read-only or slow. Anything else that is
        raised is about these items.
        """

    async def candles(
        self, series: Series, since: int, until: int, limit: int | None = None, *, forming_since: int | None = None
    ) -> list[Candle]:
        """Candles with openings in [since, until], oldest first, the forming one too; the oldest `limit` of them.

        Of those that are not closed only such as opened at `forming_since` or later.
        """

    async def candle_gaps(
        self, state: CandleGapState, series: Series | None = None, limit: int | None = None
    ) -> list[CandleGap]:
        """All holes in that state, or those of one series; the newest `limit` of them."""

    async def latest_candles(
        self, series: Series, until: int, count: int, *, forming_since: int | None = None
    ) -> list[Candle]:
        """The newest `count` candles with openings up to `until`, oldest first; `forming_since` as in `candles`."""

    async def series(self) -> dict[Series, tuple[int, int]]:
        """Every series that is kept, with its first and last opening."""

    async def coverage(self, series: Series, since: int, until: int) -> SeriesCoverage:
        """What is kept of the closed openings in [since, until]."""

    async def candle_gaps_within(self, series: Series, since: int, until: int) -> list[CandleGap]:
        """Holes of a series that touch [since, until], oldest first."""

    async def cursors(self) -> list[TradeCursor]:
        """How far the trades of each series are built in."""

    async def seals(self, series: Series, since: int, until: int) -> list[Seal]:
        """The seals of days in [since, until], the newest revision of each, oldest first."""

    async def indicator_values(self, series: Series, since: int, until: int) -> list[IndicatorValue]:
        """What indicators said at closed candles with openings in [since, until], oldest first."""

    async def analyses(self, series: Series, since: int, until: int) -> list[Analysis]:
        """The analyses of closed candles with openings in [since, until], oldest first."""

    async def delete_derived(self, series: Series, since: int, until: int) -> None:
        """Keep neither readings nor analyses of candles with openings in [since, until] any longer."""

    async def delete_candles(self, series: Series, since: int) -> int:
        """Delete the candles with openings from `since` on, and all that was made of them; answers how many."""

    async def rates(self) -> list[Rate]:
        """The last known rate of each direction."""

    async def feed_gaps(self, since: int, until: int) -> list[FeedGap]:
        """Gaps that touch [since, until], oldest first."""

    async def check_writable(self) -> None:
        """Prove that something can be saved: by how the last saves went, else by trying. Raises Unavailable."""

    def hold_role(self, role: str, on_wait: Callable[[str], None], elected: bool) -> AbstractAsyncContextManager[Lease]:
        """Have a role, from when no other process on this database has it, as `Bus.hold`.

        `elected`: this process has it on the bus, so that an earlier one on that bus which has it still only hangs.
        """

    async def check(self) -> None:
        """Whether it is this version's and this market's. Raises Unavailable, and Refused where it will never be."""

    async def dead_letters(self, replay: bool = False) -> list[DeadLetter]:
        """Messages that could not be kept, oldest first; with `replay` those that are to be published again."""

    async def count_dead_letters(self) -> int:
        """How many there are."""

    async def request_replay(self, *ids: str) -> None:
        """Have the writer publish these dead letters again."""

    async def drop_dead_letters(self, *ids: str, replayed: bool = False) -> None:
        """Keep these no longer; with `replayed` only those that were to be published again, and did not come back."""

    async def ping(self) -> None:
        """Raises Unavailable."""

    async def close(self) -> None:
        """End what is open."""


class Deps(NamedTuple):
    """All that a job or a route may use."""

    settings: Settings
    clock: Clock
    bus: Bus
    cache: Cache
    store: Store
    hub: Hub
    exchanges: tuple[Exchange, ...]
    journal: Journal
