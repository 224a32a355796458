"""Messages that cannot be kept: each is set aside alone with its reason, and nobody else notices."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import aio_pika
import pytest
from msgspec.structs import replace

from services import runtime
from services.adapters import rabbit as rabbits
from services.adapters import sql
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.archive import COMMANDS
from services.core.candles import traded
from services.core.dead_letters import Cause, of_message
from services.core.errors import KursError, UnknownName
from services.core.model import Bar, Candle, Gap, Hole, Instrument, Kline, Message, Offer, Rate, Series, State, Trade
from services.core.timeframes import DAY, MINUTE
from services.hub import Hub
from services.ports import Bus, Deps, Store
from services.settings import Settings
from services.writer import JOBS
from services.writer.quarantine import checks
from tests import servers
from tests.memory_store import Kept, as_store
from tests.simulator import until

SEED = 7
PAIR, EVIL = Instrument("BTC", "USDT"), Instrument("EVIL", "USDT")
SERIES = Series("binance", PAIR, "1m")
ONE, YEAR = Decimal(1), 365 * DAY
INTEGERS = (-1, 2**63, 10**30)
DECIMALS = tuple(map(Decimal, ("NaN", "Infinity", "-1", "1e200000", "1e-200000")))
TEXTS = ("E\0VIL", "\u202e", "\x1b[2J")


def well_formed(now: int) -> dict[type[Message], Any]:
    minute = now // MINUTE * MINUTE - 10 * MINUTE
    series = Series("binance", EVIL, "1m")
    return {
        Trade: Trade("binance", EVIL, now, now, ONE, ONE, 1),
        Kline: Kline(series, Bar(minute, ONE, ONE, ONE, ONE, ONE, ONE, 1)),
        Hole: Hole(series, minute, minute, now),
        Gap: Gap("binance", now, now, "none", EVIL),
    }


def hostile(chance: Random, now: int) -> Iterator[Message]:
    """Messages of every kind that the writer works on, each with one value that cannot be."""
    good = well_formed(now)
    ahead = now // MINUTE * MINUTE + YEAR
    changes: dict[type[Message], dict[str, Sequence[object]]] = {
        Trade: {
            "time": (*INTEGERS, now + YEAR, now + 74 * YEAR),
            "received": (*INTEGERS, now + YEAR),
            "number": INTEGERS,
            "fills": (0, *INTEGERS),
            "price": (*DECIMALS, Decimal(0)),
            "size": (*DECIMALS, Decimal(0)),
            "exchange": TEXTS,
            "instrument": tuple(EVIL._replace(base=text) for text in ("", *TEXTS)),
        },
        Kline: {
            "series": tuple(good[Kline].series._replace(timeframe=name) for name in ("7m", "", "1m\0")),
            **{f"bar.{name}": DECIMALS for name in ("open", "high", "low", "close", "volume", "quote_volume")},
            "bar.high": (*DECIMALS, Decimal("0.5")),
            "bar.timestamp": (*INTEGERS, good[Kline].bar.timestamp + 1, ahead),
            "bar.trades": INTEGERS,
        },
        Hole: {
            "since": (*INTEGERS, good[Hole].since + 1, good[Hole].since - YEAR, 1_451_606_400_000),
            "until": (*INTEGERS, good[Hole].until - MINUTE, ahead, 4_102_444_800_000),
            "noticed": INTEGERS,
            "settled": INTEGERS,
            "series": tuple(good[Hole].series._replace(exchange=text) for text in TEXTS),
        },
        Gap: {
            "since": (*INTEGERS, now + YEAR),
            "until": (*INTEGERS, now + YEAR),
            "reason": (*TEXTS, "x" * 100_000),
            "exchange": TEXTS,
        },
    }
    while True:
        kind = chance.choice(list(changes))
        name = chance.choice(list(changes[kind]))
        value, message = chance.choice(changes[kind][name]), good[kind]
        if name.startswith("bar."):
            yield replace(message, bar=replace(message.bar, **{name.removeprefix("bar."): value}))
        else:
            yield replace(message, **{name: value})


def honest(now: int) -> list[Trade]:
    """Trades of ten minutes, the last of which is not over."""
    start = now // MINUTE * MINUTE - 9 * MINUTE
    times = range(start, now, 700)
    return [
        Trade("binance", PAIR, time, time, Decimal(100 + n % 17), Decimal(n % 5 + 1) / 8, 1000 + n, n % 3 + 1)
        for n, time in enumerate(times)
    ]


@pytest.fixture(params=["memory", "rabbit"])
async def deps(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deps]:
    """Bus and store, in one process or between processes."""
    bus: Bus = MemoryBus()
    url = f"sqlite+aiosqlite:///{tmp_path}/kurs.db"
    if request.param == "rabbit":
        broker: servers.Rabbit = request.getfixturevalue("rabbit")
        database: servers.Postgres = request.getfixturevalue("postgres")
        bus, url = await rabbits.connect(broker.create_host()), database.create_database()
    await sql.migrate(url)
    store = await sql.connect(url)
    settings = Settings(_env_file=None, data_dir=tmp_path)
    yield Deps(settings, SystemClock(), bus, MemoryCache(), store, Hub(SystemClock()), (), MemoryJournal())
    await bus.close()
    await store.close()


@asynccontextmanager
async def writing(deps: Deps) -> AsyncIterator[None]:
    """The writer at work, to its last job."""
    tasks = [asyncio.create_task(job(deps)) for job in JOBS]
    try:
        yield
        assert not any(task.done() for task in tasks), "a job ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def eventually(condition: Callable[[], Any], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)


async def built(deps: Deps, trades: Sequence[Trade]) -> bool:
    return any(c.series == SERIES and c.number == trades[-1].number for c in await deps.store.cursors())


async def bars(store: Store) -> dict[int, Bar]:
    return {c.bar.timestamp: c.bar for c in await store.candles(SERIES, 0, 2**62)}


def direct(trades: Sequence[Trade]) -> dict[int, Bar]:
    """Their minutes, but for the first: nobody knows whether it is whole."""
    found: dict[int, Bar] = {}
    for trade in trades:
        minute = trade.time // MINUTE * MINUTE
        found[minute] = traded(found.get(minute), trade)
    del found[min(found)]
    return found


async def test_whatever_is_on_the_bus_the_honest_candles_are_whole_and_dead_is_what_cannot_be(deps: Deps) -> None:
    chance, now = Random(SEED), deps.clock.now()
    trades, bad = honest(now), dict[str, Message]()
    source = hostile(chance, now)
    live = (
        State("b\0", now, True, "socket", "", "", now, None, 0, False),
        Rate(EVIL, now, (Offer("x", (), DECIMALS[3]),)),
    )
    async with writing(deps):
        for start in range(0, len(trades), 20):
            messages: list[Message] = [*trades[start : start + 20]]
            for _ in range(5):
                message = next(source)
                bad[of_message(message, "writer", Cause.MESSAGE, "", now).id] = message
                messages.insert(chance.randrange(len(messages) + 1), message)
            await deps.bus.publish(*messages, *live)
        await eventually(lambda: built(deps, trades))
        await eventually(lambda: _count_is(deps, len(bad)))
    assert await bars(deps.store) == direct(trades)
    letters = await deps.store.dead_letters()
    assert {letter.id for letter in letters} == bad.keys()
    for letter in letters:
        assert letter.cause is Cause.MESSAGE
        assert letter.reason.startswith("out of range: ")
        assert letter.kind == bad[letter.id].__struct_config__.tag
    assert {series.instrument for series in await deps.store.series()} <= {PAIR, EVIL}


async def _count_is(deps: Deps, number: int) -> bool:
    return await deps.store.count_dead_letters() == number


async def test_what_cannot_be_read_is_listed_too_and_costs_nobody_in_its_letter(
    rabbit: servers.Rabbit, postgres: servers.Postgres, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A letter of three messages, of which the one in the middle is of a newer version."""
    url, address = postgres.create_database(), rabbit.create_host()
    await sql.migrate(url)
    bus, store = await rabbits.connect(address), await sql.connect(url)
    settings = Settings(_env_file=None, data_dir=tmp_path)
    deps = Deps(settings, SystemClock(), bus, MemoryCache(), store, Hub(SystemClock()), (), MemoryJournal())
    now = deps.clock.now()
    one, two = (f'{{"type":"gap","exchange":"x","since":{now - n},"until":{now},"reason":"{n}"}}' for n in (1, 2))
    try:
        await bus.ping()
        await bus.waiting("writer")
        async with writing(deps):
            connection = await aio_pika.connect(address)
            async with connection:
                channel = await connection.channel()
                exchange = await channel.get_exchange("kurs")
                for body in (f'[{one},{{"type":"new"}},{two}]', "\0garbage\x00", "[" * 50_000):
                    await exchange.publish(aio_pika.Message(body.encode()), "gap.x")
            await eventually(lambda: _count_is(deps, 3))
            await eventually(lambda: _gaps_are(deps, now, {"1", "2"}))
        assert {letter.cause for letter in await store.dead_letters()} == {Cause.SHAPE}
        assert '{"type":"new"}' in {letter.body for letter in await store.dead_letters()}
    finally:
        await bus.close()
        await store.close()


async def _gaps_are(deps: Deps, now: int, reasons: set[str]) -> bool:
    return {gap.reason for gap in await deps.store.gaps(now, now)} == reasons


class Refusing(Kept):
    """A store that is well, but does not take candles of one instrument, as one with a fault of its own would."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[Instrument] = {EVIL}
        self.tries = 0

    async def save(self, *items: Any) -> None:
        if any(isinstance(item, Candle) and item.series.instrument in self.refused for item in items):
            self.tries += 1
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        await super().save(*items)


async def test_what_the_store_refuses_is_found_by_parting_the_batch_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    store, bus = Refusing(), MemoryBus()
    deps = Deps(
        Settings(_env_file=None),
        SystemClock(),
        bus,
        MemoryCache(),
        as_store(store),
        Hub(SystemClock()),
        (),
        MemoryJournal(),
    )
    now = deps.clock.now()
    trades, poison = honest(now), well_formed(now)[Kline]
    await bus.publish(*trades[:300], poison, *trades[300:])
    async with writing(deps):
        await until(lambda: (c := store.progress.get(SERIES)) is not None and c.number == trades[-1].number, 30)
        await until(lambda: bool(store.dead), 30)
    assert {opening: candle.bar for opening, candle in store.rows[SERIES].items()} == direct(trades)
    (letter,) = store.dead.values()
    assert (letter.kind, letter.symbol, letter.cause) == ("kline", "EVIL-USDT", Cause.MESSAGE)
    assert "too large" in letter.reason
    assert store.tries < 20  # about twice the logarithm of the batch


async def test_while_the_store_is_away_nothing_is_dead() -> None:
    store, bus = Refusing(), MemoryBus()
    deps = Deps(
        Settings(_env_file=None),
        SystemClock(),
        bus,
        MemoryCache(),
        as_store(store),
        Hub(SystemClock()),
        (),
        MemoryJournal(),
    )
    now = deps.clock.now()
    store.failures = 6
    await bus.publish(*honest(now)[:300], well_formed(now)[Gap], replace(well_formed(now)[Gap], reason="a\0"))
    async with writing(deps):
        await until(lambda: store.failures < 0 and SERIES in store.rows, 30)
        await until(lambda: bool(store.dead), 30)
    assert [letter.kind for letter in store.dead.values()] == ["gap"]


async def test_dead_letters_are_seen_replayed_and_dropped_by_another_process(
    deps: Deps, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = deps.clock.now()
    mended, hopeless = well_formed(now)[Gap], replace(well_formed(now)[Gap], until=now + YEAR)
    letter = of_message(mended, "writer", Cause.PROGRAM, "KeyError: a bug of an older version", now)
    await deps.store.save(letter)

    async def kurs(*words: str) -> str:
        assert await COMMANDS["dead"](words).run(deps) == 0
        return capsys.readouterr().out

    async with writing(deps):
        await deps.bus.publish(hopeless)
        await eventually(lambda: _count_is(deps, 2))
        with pytest.raises(KursError, match="2 messages could not be kept"):
            await checks(deps)["dead_letters"]()
        listed = await kurs()
        assert f"{letter.id}  " in listed
        assert "gap EVIL-USDT: out of range: the times" in listed
        assert "a bug of an older version" in await kurs("show", letter.id)
        assert f'"until":{now}' in await kurs("show", letter.id)
        await kurs("replay", "--all")
        await eventually(lambda: _gaps_are(deps, now, {"none"}))
        await eventually(lambda: _count_is(deps, 1))
        assert "still out of range: the times" in await kurs()
        with pytest.raises(UnknownName, match="kurs dead list"):
            await kurs("show", letter.id)
        (other,) = await deps.store.dead_letters()
        await kurs("drop", other.id)
        assert await deps.store.dead_letters() == []
        await checks(deps)["dead_letters"]()
    assert runtime.understood([], deps.settings)
