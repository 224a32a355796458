"""The writer's states as a table, the order of its steps and commits, and its registry of candle gaps."""

import asyncio
from decimal import Decimal

import pytest

from services.core.candles import empty_bar
from services.core.errors import Unavailable
from services.core.model import CandleGap, CandleGapState, Instrument, Kline, Series
from services.core.timeframes import MINUTE_MS
from services.writer.batch_processor import BatchProcessor, StoreRejectedError
from services.writer.committer import REDELIVERY_WINDOW_MS, CommitterEvent, CommitterState, next_state
from services.writer.gap_registry import GapRegistry, GapSet
from tests.failing_store import FailingStore

SERIES = Series("x", Instrument("BTC", "USDT"), "1m")
START = 1_704_067_200_000
KLINE = Kline(SERIES, empty_bar(START, Decimal(5)))
UNLOADED, FRESH, STEADY = CommitterState.UNLOADED, CommitterState.FRESH, CommitterState.STEADY
YOUNG, OLD = REDELIVERY_WINDOW_MS - 1, REDELIVERY_WINDOW_MS

STATES = {  # event, age → state after UNLOADED, FRESH, STEADY
    (CommitterEvent.LOADED, YOUNG): (FRESH, FRESH, FRESH),
    (CommitterEvent.LOADED, OLD): (STEADY, STEADY, STEADY),
    (CommitterEvent.STEP_BEGINS, YOUNG): (UNLOADED, FRESH, FRESH),
    (CommitterEvent.STEP_BEGINS, OLD): (UNLOADED, STEADY, STEADY),
    (CommitterEvent.FAILED, YOUNG): (UNLOADED, UNLOADED, UNLOADED),
    (CommitterEvent.FAILED, OLD): (UNLOADED, UNLOADED, UNLOADED),
}


@pytest.mark.parametrize(("event_and_age", "after"), STATES.items(), ids=str)
def test_committer_state_after_each_event(
    event_and_age: tuple[CommitterEvent, int], after: tuple[CommitterState, ...]
) -> None:
    assert tuple(next_state(before, *event_and_age) for before in CommitterState) == after


def test_table_has_every_event() -> None:
    assert {event for event, _ in STATES} == set(CommitterEvent)


def test_step_is_refused_until_the_one_before_is_committed() -> None:
    async def play() -> None:
        processor = BatchProcessor(FailingStore())
        pending = await processor.apply([KLINE], START)
        with pytest.raises(RuntimeError, match="was not committed"):
            await processor.apply([], START)
        await pending.commit()
        with pytest.raises(RuntimeError, match="committed already"):
            await pending.commit()
        await (await processor.apply([], START)).commit()

    asyncio.run(play())


class RejectingStore(FailingStore):
    """A store that rejects every row."""

    async def save(self, *items: object) -> None:
        raise ValueError("a column is too short")


@pytest.mark.parametrize("error", [Unavailable, StoreRejectedError])
def test_processor_accepts_no_step_after_a_failed_commit(error: type[Exception]) -> None:
    async def play() -> None:
        store = FailingStore() if error is Unavailable else RejectingStore()
        store.failures = 2
        processor = BatchProcessor(store)
        pending = await processor.apply([KLINE], START)
        with pytest.raises(error):
            await pending.commit()
        with pytest.raises(RuntimeError, match="load a new processor"):
            await processor.seal_days(SERIES, START, START, START)

    asyncio.run(play())


def gap(first: int, last: int, state: CandleGapState = CandleGapState.OPEN) -> CandleGap:
    resolved = None if state is CandleGapState.OPEN else 1
    return CandleGap(SERIES, START + first * MINUTE_MS, START + last * MINUTE_MS, 1, state, resolved)


def absent(first: int, last: int) -> CandleGap:
    return gap(first, last, CandleGapState.ABSENT)


GAPS = {  # gaps registered one after the other → the new ones of each
    "open": ([gap(0, 9)], [[gap(0, 9)]]),
    "open twice": ([gap(0, 9), gap(0, 9)], [[gap(0, 9)], []]),
    "absent at the beginning": ([gap(0, 9), absent(0, 3)], [[gap(0, 9)], [absent(0, 3), gap(4, 9)]]),
    "absent longer than open": ([gap(0, 3), absent(0, 9)], [[gap(0, 3)], [absent(0, 9)]]),
    "open within absent": ([absent(0, 9), gap(0, 3)], [[absent(0, 9)], []]),
    "open longer than absent": ([absent(0, 3), gap(0, 9)], [[absent(0, 3)], [gap(4, 9)]]),
    "two absent in a row": ([absent(0, 3), absent(4, 6), gap(0, 9)], [[absent(0, 3)], [absent(4, 6)], [gap(7, 9)]]),
    "absent grows": ([absent(0, 3), absent(0, 9), absent(0, 5)], [[absent(0, 3)], [absent(0, 9)], []]),
}


@pytest.mark.parametrize(("gaps", "new"), GAPS.values(), ids=GAPS)
def test_gap_registry_returns_the_new_gaps(gaps: list[CandleGap], new: list[list[CandleGap]]) -> None:
    registry = GapRegistry()
    assert [registry.register([each]) for each in gaps] == new


def test_gap_set_finds_gaps_by_open_time() -> None:
    gaps, first, second = GapSet(), gap(0, 3), gap(2, 5)
    gaps.add(first)
    gaps.add(second)
    assert gaps.touching([first.until]) == [first, second]
    assert gaps.touching([second.until]) == [second]
    assert gaps.covers(second.since, without=second)
    assert not gaps.covers(second.until, without=second)
    assert gaps.overlaps(second.until + 1, second.until + 1)
    assert not gaps.overlaps(second.until + MINUTE_MS, second.until + 2 * MINUTE_MS)
    gaps.discard_from(second.since)
    assert list(gaps) == [first]
