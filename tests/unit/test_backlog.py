"""When the collector scans a series, fetches candles and reports candle gaps, over days of a manual clock."""

import asyncio
from collections import Counter
from decimal import Decimal
from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.adapters.memory import MemoryStore
from services.collector.gap_scanner import GapScanner, ScanResult
from services.core import ranges
from services.core.candles import empty_bar
from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.model import Candle, CandleGap, CandleGapState, CandleSource, Instrument, Series
from services.core.timeframes import DAY_MS, MINUTE_MS, TIMEFRAMES
from services.exchanges import EXCHANGES

SERIES = Series("binance", Instrument("BTC", "USDT"), "15m")
FRAME = TIMEFRAMES["15m"]
START = 1_704_067_200_000
BARS = 40
ALL_TIMEFRAMES = frozenset(TIMEFRAMES)


def closed(opening: int, source: CandleSource = CandleSource.EXCHANGE) -> Candle:
    return Candle(SERIES, empty_bar(opening, Decimal(5)), True, source)


async def scan(store: MemoryStore, scanner: GapScanner, now: int, *, without: int | None = None) -> ScanResult:
    """Scan a store that has all closed candles except `without`."""
    openings = FRAME.open_times(START, FRAME.step_back(FRAME.open_time(now), 1))
    await store.save(*(closed(opening) for opening in openings if opening != without))
    return await scanner.scan(now, BARS)


def test_complete_series_is_scanned_once_a_candle_without_a_fetch() -> None:
    async def play() -> None:
        store, now, scans = MemoryStore(), START + DAY_MS, 0
        scanner = GapScanner(SERIES, store, EXCHANGES["binance"], ALL_TIMEFRAMES)
        while now < START + 2 * DAY_MS:
            found = await scan(store, scanner, now)
            assert (found.missing, found.to_fetch, found.new_gaps) == ([], [], [])
            assert found.expected_count == FRAME.count_between(START, FRAME.step_back(FRAME.open_time(now - 10_000), 1))
            assert scanner.schedule.next_scan_at > now
            now, scans = scanner.schedule.next_scan_at, scans + 1
        assert scans <= DAY_MS // FRAME.length + 1

    asyncio.run(play())


def test_largest_history_setting_reaches_the_first_candle_and_no_further() -> None:
    async def play() -> None:
        for name in ("1d", "3d", "1w", "1M"):
            series = SERIES._replace(timeframe=name)
            scanner = GapScanner(series, MemoryStore(), EXCHANGES["binance"], ALL_TIMEFRAMES)
            found = await scanner.scan(START + DAY_MS, 100_000)
            assert found.first_expected == next(TIMEFRAMES[name].open_times(EARLIEST_CANDLE_MS, START))

    asyncio.run(play())


def test_scan_is_due_at_once_after_a_clock_went_back() -> None:
    async def play() -> None:
        store, now, lost = MemoryStore(), START + DAY_MS, START + DAY_MS // 2
        scanner = GapScanner(SERIES, store, EXCHANGES["binance"], ALL_TIMEFRAMES)
        await scan(store, scanner, now + 365 * DAY_MS)
        store.candle_rows[SERIES] = {
            each: row for each, row in store.candle_rows[SERIES].items() if each < now and each != lost
        }
        assert scanner.schedule.next_scan_at > now + 365 * DAY_MS
        assert scanner.schedule.is_due(now)
        assert (lost, lost) in (await scanner.scan(now, BARS)).missing
        assert not scanner.schedule.is_due(now)

    asyncio.run(play())


def test_absent_candle_is_fetched_again_at_growing_intervals_for_a_day() -> None:
    async def play() -> None:
        store, now, fetches, lost = MemoryStore(), START + DAY_MS, Counter[int](), START + DAY_MS // 2
        await store.save(CandleGap(SERIES, lost, lost, now, CandleGapState.ABSENT, resolved=now))
        scanner = GapScanner(SERIES, store, EXCHANGES["binance"], ALL_TIMEFRAMES)
        while now < START + 4 * DAY_MS:
            found = await scan(store, scanner, now, without=lost)
            assert (found.missing, found.new_gaps) == ([], [])
            for run in found.to_fetch:
                assert run == (lost, lost)
                fetches[(now - START) // DAY_MS] += 1
            now = scanner.schedule.next_scan_at
        assert list(fetches) == [1]
        assert 1 <= fetches[1] <= 24

    asyncio.run(play())


def test_lost_candle_is_a_candle_gap_at_once_only_where_klines_are_streamed() -> None:
    async def play() -> None:
        lost, now = START + DAY_MS, START + DAY_MS + FRAME.length + 30_000
        store, tries = MemoryStore(), list[int]()
        streamed = GapScanner(SERIES, store, EXCHANGES["binance"], ALL_TIMEFRAMES)
        polled = GapScanner(SERIES, store, EXCHANGES["deribit"], ALL_TIMEFRAMES)
        assert (await scan(store, polled, now, without=lost)).new_gaps == []
        found = await scan(store, streamed, now, without=lost)
        assert found.new_gaps == [CandleGap(SERIES, lost, lost, detected=now)]
        assert (found.missing, found.to_fetch) == ([(lost, lost)], [(lost, lost)])
        await store.save(*found.new_gaps)
        while len(tries) < 12:
            found = await scan(store, streamed, now, without=lost)
            assert ((lost, lost) in found.to_fetch, found.new_gaps) == (True, [])
            tries.append(streamed.schedule.next_scan_at - now)
            now = streamed.schedule.next_scan_at
        assert tries[0] <= 30_000
        assert 300_000 <= tries[-1] <= 600_000

    asyncio.run(play())


def test_unconfirmed_minutes_are_fetched_but_are_no_candle_gaps() -> None:
    async def play() -> None:
        series, store = SERIES._replace(timeframe="1m"), MemoryStore()
        for number in range(60):
            source = CandleSource.TRADES if number in (7, 8, 30) else CandleSource.EXCHANGE
            await store.save(Candle(series, empty_bar(START + number * MINUTE_MS, Decimal(5)), True, source))
        scanner = GapScanner(series, store, EXCHANGES["binance"], ALL_TIMEFRAMES)
        found = await scanner.scan(START + 60 * MINUTE_MS + 15_000, BARS)
        minutes = [((since - START) // MINUTE_MS, (until - START) // MINUTE_MS) for since, until in found.to_fetch]
        assert (minutes, found.missing, found.new_gaps) == ([(7, 8), (30, 30)], [], [])

    asyncio.run(play())


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.sampled_from(["1m", "1w", "1M"]), st.integers(1, 9))
def test_ranges_subtract_and_split_like_sets_of_open_times(
    some: set[int], known: set[int], name: str, most: int
) -> None:
    frame = TIMEFRAMES[name]
    openings = list(islice(frame.open_times(START, START + DAY_MS * 31 * 70), 61))
    chosen, excluded = ([openings[number] for number in sorted(numbers)] for numbers in (some, known))

    def members(found: list[ranges.TimeRange]) -> list[int]:
        return [opening for run in found for opening in frame.open_times(*run)]

    whole, hidden = ranges.from_open_times(frame, chosen), ranges.from_open_times(frame, excluded)
    assert members(whole) == chosen
    assert all(frame.close_time(first[1]) < second[0] for first, second in pairwise(whole))
    assert members(ranges.subtract(frame, whole, hidden)) == [o for o in chosen if o not in set(excluded)]
    pages = ranges.split(frame, whole, most)
    assert sorted(members(pages)) == chosen
    assert pages == sorted(pages, reverse=True)
    assert all(frame.count_between(*page) <= most for page in pages)
