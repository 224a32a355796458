"""When what is looked at, asked for and called a hole: days of a clock that the test turns."""

import asyncio
from collections import Counter
from decimal import Decimal
from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.collector.gap_scanner import Backlog, Found
from services.core import ranges
from services.core.candles import empty
from services.core.history_depth import BEGINNING
from services.core.model import Candle, Hole, HoleState, Instrument, Origin, Series
from services.core.timeframes import DAY, MINUTE, TIMEFRAMES
from services.exchanges import EXCHANGES
from tests.memory_store import Kept, as_store

SERIES = Series("binance", Instrument("BTC", "USDT"), "15m")
FRAME = TIMEFRAMES["15m"]
START = 1_704_067_200_000
BARS = 40
GIVEN = frozenset(TIMEFRAMES)


def closed(opening: int, source: Origin = Origin.EXCHANGE) -> Candle:
    return Candle(SERIES, empty(opening, Decimal(5)), True, source)


async def look(store: Kept, backlog: Backlog, now: int, *, without: int | None = None) -> Found:
    """A look at a store that has all closed candles but one."""
    openings = FRAME.openings(START, FRAME.back(FRAME.opening(now), 1))
    await store.save(*(closed(opening) for opening in openings if opening != without))
    return await backlog.look(now, BARS)


def test_nothing_is_asked_for_while_all_comes_by_itself_and_a_look_a_bar_is_enough() -> None:
    async def play() -> None:
        store, now, looks = Kept(), START + DAY, 0
        backlog = Backlog(SERIES, as_store(store), EXCHANGES["binance"], GIVEN)
        while now < START + 2 * DAY:
            found = await look(store, backlog, now)
            assert (found.missing, found.asked, found.holes) == ([], [], [])
            assert found.expected == FRAME.expected(START, FRAME.back(FRAME.opening(now - 10_000), 1))
            assert backlog.due > now
            now, looks = backlog.due, looks + 1
        assert looks <= DAY // FRAME.length + 1

    asyncio.run(play())


def test_as_many_bars_as_may_be_set_reach_back_to_the_beginning_and_no_further() -> None:
    async def play() -> None:
        for name in ("1d", "3d", "1w", "1M"):
            series = SERIES._replace(timeframe=name)
            backlog = Backlog(series, as_store(Kept()), EXCHANGES["binance"], GIVEN)
            found = await backlog.look(START + DAY, 100_000)
            assert found.since == next(TIMEFRAMES[name].openings(BEGINNING, START))

    asyncio.run(play())


def test_what_was_seen_by_a_wrong_time_of_the_exchange_is_looked_at_again_at_once() -> None:
    async def play() -> None:
        store, now, lost = Kept(), START + DAY, START + DAY // 2
        backlog = Backlog(SERIES, as_store(store), EXCHANGES["binance"], GIVEN)
        await look(store, backlog, now + 365 * DAY)
        store.rows[SERIES] = {each: row for each, row in store.rows[SERIES].items() if each < now and each != lost}
        assert backlog.due > now + 365 * DAY
        assert backlog.is_due(now)
        assert (lost, lost) in (await backlog.look(now, BARS)).missing
        assert not backlog.is_due(now)

    asyncio.run(play())


def test_what_the_exchange_lacks_is_asked_for_again_for_a_day_now_and_then() -> None:
    async def play() -> None:
        store, now, asked, lost = Kept(), START + DAY, Counter[int](), START + DAY // 2
        await store.save(Hole(SERIES, lost, lost, now, HoleState.ABSENT, settled=now))
        backlog = Backlog(SERIES, as_store(store), EXCHANGES["binance"], GIVEN)
        while now < START + 4 * DAY:
            found = await look(store, backlog, now, without=lost)
            assert (found.missing, found.holes) == ([], [])
            for run in found.asked:
                assert run == (lost, lost)
                asked[(now - START) // DAY] += 1
            now = backlog.due
        assert list(asked) == [1]
        assert 1 <= asked[1] <= 24

    asyncio.run(play())


def test_a_lost_candle_is_a_hole_at_once_where_candles_are_streamed_and_asked_for_ever_less_often() -> None:
    async def play() -> None:
        lost, now = START + DAY, START + DAY + FRAME.length + 30_000
        store, tries = Kept(), list[int]()
        streamed = Backlog(SERIES, as_store(store), EXCHANGES["binance"], GIVEN)
        polled = Backlog(SERIES, as_store(store), EXCHANGES["deribit"], GIVEN)
        assert (await look(store, polled, now, without=lost)).holes == []
        found = await look(store, streamed, now, without=lost)
        assert found.holes == [Hole(SERIES, lost, lost, noticed=now)]
        assert (found.missing, found.asked) == ([(lost, lost)], [(lost, lost)])
        await store.save(*found.holes)
        while len(tries) < 12:
            found = await look(store, streamed, now, without=lost)
            assert ((lost, lost) in found.asked, found.holes) == (True, [])
            tries.append(streamed.due - now)
            now = streamed.due
        assert tries[0] <= 30_000
        assert 300_000 <= tries[-1] <= 600_000

    asyncio.run(play())


def test_minutes_that_only_our_trades_vouch_for_are_asked_for_and_are_no_holes() -> None:
    async def play() -> None:
        series, store = SERIES._replace(timeframe="1m"), Kept()
        for number in range(60):
            source = Origin.TICKS if number in (7, 8, 30) else Origin.EXCHANGE
            await store.save(Candle(series, empty(START + number * MINUTE, Decimal(5)), True, source))
        backlog = Backlog(series, as_store(store), EXCHANGES["binance"], GIVEN)
        found = await backlog.look(START + 60 * MINUTE + 15_000, BARS)
        minutes = [((since - START) // MINUTE, (until - START) // MINUTE) for since, until in found.asked]
        assert (minutes, found.missing, found.holes) == ([(7, 8), (30, 30)], [], [])

    asyncio.run(play())


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.sampled_from(["1m", "1w", "1M"]), st.integers(1, 9))
def test_runs_are_sets_of_openings(some: set[int], known: set[int], name: str, most: int) -> None:
    frame = TIMEFRAMES[name]
    openings = list(islice(frame.openings(START, START + DAY * 31 * 70), 61))
    chosen, excluded = ([openings[number] for number in sorted(numbers)] for numbers in (some, known))

    def members(found: list[ranges.Run]) -> list[int]:
        return [opening for run in found for opening in frame.openings(*run)]

    whole, hidden = ranges.of(frame, chosen), ranges.of(frame, excluded)
    assert members(whole) == chosen
    assert all(frame.closing(first[1]) < second[0] for first, second in pairwise(whole))
    assert members(ranges.without(frame, whole, hidden)) == [o for o in chosen if o not in set(excluded)]
    pages = ranges.pages(frame, whole, most)
    assert sorted(members(pages)) == chosen
    assert pages == sorted(pages, reverse=True)
    assert all(frame.expected(*page) <= most for page in pages)
