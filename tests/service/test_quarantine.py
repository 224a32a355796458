"""Messages that cannot be saved become dead letters one by one, with the reason, and all others are saved."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import aio_pika
import pytest
from msgspec.structs import replace

from services.adapters import rabbit as rabbits
from services.adapters import sql
from services.adapters.memory import MemoryBus
from services.command_line import parse_command, parse_process
from services.core.candles import add_trade
from services.core.dead_letters import DeadLetterCause, from_message
from services.core.errors import KursError, UnknownName
from services.core.model import (
    Bar,
    Candle,
    CandleGap,
    ExchangeStatus,
    FeedGap,
    Instrument,
    Kline,
    Message,
    Rate,
    RateCandidate,
    Series,
    Trade,
)
from services.core.timeframes import DAY_MS, MINUTE_MS
from services.core.times import FAR_FUTURE
from services.ports import Bus, Deps, Store
from services.settings import Settings
from services.writer import JOBS
from services.writer.quarantine import checks
from tests import servers
from tests.deps import make_deps
from tests.failing_store import FailingStore
from tests.jobs import running_jobs
from tests.waiting import eventually

SEED = 7
PAIR, EVIL = Instrument("BTC", "USDT"), Instrument("EVIL", "USDT")
SERIES = Series("binance", PAIR, "1m")
ONE, YEAR_MS = Decimal(1), 365 * DAY_MS
INTEGERS = (-1, 2**63, 10**30)
DECIMALS = tuple(map(Decimal, ("NaN", "Infinity", "-1", "1e200000", "1e-200000")))
TEXTS = ("E\0VIL", "\u202e", "\x1b[2J")


def valid_fields(now: int) -> dict[type[Message], Any]:
    minute = now // MINUTE_MS * MINUTE_MS - 10 * MINUTE_MS
    series = Series("binance", EVIL, "1m")
    return {
        Trade: Trade("binance", EVIL, now, now, ONE, ONE, 1),
        Kline: Kline(series, Bar(minute, ONE, ONE, ONE, ONE, ONE, ONE, 1)),
        CandleGap: CandleGap(series, minute, minute, now),
        FeedGap: FeedGap("binance", now, now, "none", EVIL),
    }


def hostile_messages(chance: Random, now: int) -> Iterator[Message]:
    """Yield messages of every kind that the writer consumes, each with one invalid value."""
    valid = valid_fields(now)
    ahead = now // MINUTE_MS * MINUTE_MS + YEAR_MS
    changes: dict[type[Message], dict[str, Sequence[object]]] = {
        Trade: {
            "time": (*INTEGERS, now + YEAR_MS, now + 74 * YEAR_MS),
            "received": (*INTEGERS, now + YEAR_MS),
            "trade_id": INTEGERS,
            "fills": (0, *INTEGERS),
            "price": (*DECIMALS, Decimal(0)),
            "size": (*DECIMALS, Decimal(0)),
            "exchange": TEXTS,
            "instrument": tuple(EVIL._replace(base=text) for text in ("", *TEXTS)),
        },
        Kline: {
            "series": tuple(valid[Kline].series._replace(timeframe=name) for name in ("7m", "", "1m\0")),
            **{f"bar.{name}": DECIMALS for name in ("open", "high", "low", "close", "volume", "quote_volume")},
            "bar.high": (*DECIMALS, Decimal("0.5")),
            "bar.open_time": (*INTEGERS, valid[Kline].bar.open_time + 1, ahead),
            "bar.trades": INTEGERS,
        },
        CandleGap: {
            "since": (*INTEGERS, valid[CandleGap].since + 1, valid[CandleGap].since - YEAR_MS, 1_451_606_400_000),
            "until": (*INTEGERS, valid[CandleGap].until - MINUTE_MS, ahead, 4_102_444_800_000),
            "detected": INTEGERS,
            "resolved": INTEGERS,
            "series": tuple(valid[CandleGap].series._replace(exchange=text) for text in TEXTS),
        },
        FeedGap: {
            "since": (*INTEGERS, now + YEAR_MS),
            "until": (*INTEGERS, now + YEAR_MS),
            "reason": (*TEXTS, "x" * 100_000),
            "exchange": TEXTS,
        },
    }
    while True:
        kind = chance.choice(list(changes))
        name = chance.choice(list(changes[kind]))
        value, message = chance.choice(changes[kind][name]), valid[kind]
        if name.startswith("bar."):
            yield replace(message, bar=replace(message.bar, **{name.removeprefix("bar."): value}))
        else:
            yield replace(message, **{name: value})


def honest_trades(now: int) -> list[Trade]:
    """Return trades of ten minutes. The last minute is not over."""
    start = now // MINUTE_MS * MINUTE_MS - 9 * MINUTE_MS
    times = range(start, now, 700)
    return [
        Trade("binance", PAIR, time, time, Decimal(100 + n % 17), Decimal(n % 5 + 1) / 8, 1000 + n, n % 3 + 1)
        for n, time in enumerate(times)
    ]


@pytest.fixture(params=["memory", "rabbit"])
async def deps(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deps]:
    """Ports with bus and store of one process, or of several ones."""
    bus: Bus = MemoryBus()
    url = f"sqlite+aiosqlite:///{tmp_path}/kurs.db"
    if request.param == "rabbit":
        broker: servers.Rabbit = request.getfixturevalue("rabbit")
        database: servers.Postgres = request.getfixturevalue("postgres")
        bus, url = await rabbits.connect(broker.create_vhost()), database.create_database()
    await sql.migrate(url)
    store = await sql.connect(url)
    yield make_deps(Settings(_env_file=None, data_dir=tmp_path), bus=bus, store=store)
    await bus.close()
    await store.close()


@asynccontextmanager
async def run_writer(deps: Deps) -> AsyncIterator[None]:
    """Run all jobs of the writer until the block ends."""
    async with running_jobs(*(job(deps) for job in JOBS)):
        yield


async def has_bars(deps: Deps, trades: Sequence[Trade]) -> bool:
    return any(c.series == SERIES and c.trade_id == trades[-1].trade_id for c in await deps.store.cursors())


async def stored_bars(store: Store) -> dict[int, Bar]:
    return {c.bar.open_time: c.bar for c in await store.candles(SERIES, 0, FAR_FUTURE)}


def bars_of_trades(trades: Sequence[Trade]) -> dict[int, Bar]:
    """Return the minutes of trades except the first one, which may be incomplete."""
    found: dict[int, Bar] = {}
    for trade in trades:
        minute = trade.time // MINUTE_MS * MINUTE_MS
        found[minute] = add_trade(found.get(minute), trade)
    del found[min(found)]
    return found


async def test_invalid_messages_become_dead_letters_and_candles_of_valid_trades_are_complete(deps: Deps) -> None:
    chance, now = Random(SEED), deps.clock.now()
    trades, invalid = honest_trades(now), dict[str, Message]()
    source = hostile_messages(chance, now)
    live = (
        ExchangeStatus("b\0", now, True, "socket", "", "", now, None, 0, False),
        Rate(EVIL, now, (RateCandidate("x", (), DECIMALS[3]),)),
    )
    async with run_writer(deps):
        for start in range(0, len(trades), 20):
            messages: list[Message] = [*trades[start : start + 20]]
            for _ in range(5):
                message = next(source)
                invalid[from_message(message, "writer", DeadLetterCause.MESSAGE, "", now).id] = message
                messages.insert(chance.randrange(len(messages) + 1), message)
            await deps.bus.publish(*messages, *live)
        await eventually(lambda: has_bars(deps, trades))
        await eventually(lambda: _count_is(deps, len(invalid)))
    assert await stored_bars(deps.store) == bars_of_trades(trades)
    letters = await deps.store.dead_letters()
    assert {letter.id for letter in letters} == invalid.keys()
    for letter in letters:
        assert letter.cause is DeadLetterCause.MESSAGE
        assert letter.reason.startswith("out of range: ")
        assert letter.kind == invalid[letter.id].__struct_config__.tag
    assert {series.instrument for series in await deps.store.series()} <= {PAIR, EVIL}


async def _count_is(deps: Deps, number: int) -> bool:
    return await deps.store.count_dead_letters() == number


async def test_undecodable_message_of_a_batch_becomes_a_dead_letter_and_the_rest_is_saved(
    rabbit: servers.Rabbit, postgres: servers.Postgres, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A batch has three messages, the second one of a newer version."""
    url, address = postgres.create_database(), rabbit.create_vhost()
    await sql.migrate(url)
    bus, store = await rabbits.connect(address), await sql.connect(url)
    deps = make_deps(Settings(_env_file=None, data_dir=tmp_path), bus=bus, store=store)
    now = deps.clock.now()
    one, two = (f'{{"type":"gap","exchange":"x","since":{now - n},"until":{now},"reason":"{n}"}}' for n in (1, 2))
    try:
        await bus.ping()
        await bus.queue_depth("writer")
        async with run_writer(deps):
            connection = await aio_pika.connect(address)
            async with connection:
                channel = await connection.channel()
                exchange = await channel.get_exchange("kurs")
                for body in (f'[{one},{{"type":"new"}},{two}]', "\0garbage\x00", "[" * 50_000):
                    await exchange.publish(aio_pika.Message(body.encode()), "gap.x")
            await eventually(lambda: _count_is(deps, 3))
            await eventually(lambda: _gaps_are(deps, now, {"1", "2"}))
        assert {letter.cause for letter in await store.dead_letters()} == {DeadLetterCause.SHAPE}
        assert '{"type":"new"}' in {letter.body for letter in await store.dead_letters()}
    finally:
        await bus.close()
        await store.close()


async def _gaps_are(deps: Deps, now: int, reasons: set[str]) -> bool:
    return {gap.reason for gap in await deps.store.feed_gaps(now, now)} == reasons


class RefusingStore(FailingStore):
    """A store that rejects candles of one instrument with an unexpected error."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[Instrument] = {EVIL}
        self.tries = 0

    async def save(self, *items: Any) -> None:
        if any(isinstance(item, Candle) and item.series.instrument in self.refused for item in items):
            self.tries += 1
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        await super().save(*items)


async def test_item_that_the_store_rejects_becomes_a_dead_letter_and_the_rest_is_saved(tmp_path: Path) -> None:
    store, bus = RefusingStore(), MemoryBus()
    deps = make_deps(bus=bus, store=store)
    now = deps.clock.now()
    trades, poison = honest_trades(now), valid_fields(now)[Kline]
    await bus.publish(*trades[:300], poison, *trades[300:])
    async with run_writer(deps):
        await eventually(lambda: (c := store.cursor_rows.get(SERIES)) is not None and c.trade_id == trades[-1].trade_id)
        await eventually(lambda: bool(store.dead_letter_rows))
    assert {opening: candle.bar for opening, candle in store.candle_rows[SERIES].items()} == bars_of_trades(trades)
    (letter,) = store.dead_letter_rows.values()
    assert (letter.kind, letter.symbol, letter.cause) == ("kline", "EVIL-USDT", DeadLetterCause.MESSAGE)
    assert "too large" in letter.reason
    assert store.tries < 20  # about twice the logarithm of the batch


async def test_no_message_becomes_a_dead_letter_while_the_store_is_unavailable() -> None:
    store, bus = RefusingStore(), MemoryBus()
    deps = make_deps(bus=bus, store=store)
    now = deps.clock.now()
    store.failures = 6
    await bus.publish(
        *honest_trades(now)[:300], valid_fields(now)[FeedGap], replace(valid_fields(now)[FeedGap], reason="a\0")
    )
    async with run_writer(deps):
        await eventually(lambda: store.failures < 0 and SERIES in store.candle_rows)
        await eventually(lambda: bool(store.dead_letter_rows))
    assert [letter.kind for letter in store.dead_letter_rows.values()] == ["gap"]


async def test_dead_letters_are_listed_replayed_and_dropped_by_command(
    deps: Deps, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = deps.clock.now()
    repaired, hopeless = valid_fields(now)[FeedGap], replace(valid_fields(now)[FeedGap], until=now + YEAR_MS)
    letter = from_message(repaired, "writer", DeadLetterCause.PROGRAM, "KeyError: a bug of an older version", now)
    await deps.store.save(letter)

    async def kurs(*arguments: str) -> str:
        assert await parse_command("dead", arguments).run(deps) == 0
        return capsys.readouterr().out

    async def out_of_range_again() -> bool:
        return "still out of range: the times" in await kurs()

    async with run_writer(deps):
        await deps.bus.publish(hopeless)
        await eventually(lambda: _count_is(deps, 2))
        with pytest.raises(KursError, match="2 messages could not be saved"):
            await checks(deps)["dead_letters"]()
        listed = await kurs()
        assert f"{letter.id}  " in listed
        assert "gap EVIL-USDT: out of range: the times" in listed
        assert "a bug of an older version" in await kurs("show", letter.id)
        assert f'"until":{now}' in await kurs("show", letter.id)
        await kurs("replay", "--all")
        await eventually(lambda: _gaps_are(deps, now, {"none"}))
        await eventually(lambda: _count_is(deps, 1))
        await eventually(out_of_range_again)
        with pytest.raises(UnknownName, match="kurs dead list"):
            await kurs("show", letter.id)
        (other,) = await deps.store.dead_letters()
        await kurs("drop", other.id)
        assert await deps.store.dead_letters() == []
        await checks(deps)["dead_letters"]()
    assert parse_process([], deps.settings)
