"""Open times, compared with those of candles in Binance's archives and streams."""

from itertools import pairwise

import numpy as np
import pytest

from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.simulator.market.tape_candles import LENGTHS_MS, opening

FIRST = 1_502_942_400_000  # 2017-08-17 04:00: BTCUSDT's first trade
RECORDED = {  # open times of real candles
    "1m": (FIRST, 1_588_740_120_000, 1_787_380_860_000),
    "3m": (FIRST,),
    "5m": (FIRST, 1_729_944_000_000),
    "15m": (FIRST,),
    "30m": (FIRST,),
    "1h": (FIRST,),
    "2h": (FIRST,),
    "4h": (FIRST, 1_723_723_200_000),
    "6h": (1_502_928_000_000,),
    "8h": (1_502_928_000_000,),
    "12h": (1_502_928_000_000, 1_658_188_800_000),
    "1d": (1_502_928_000_000, 1_503_014_400_000),
    "3d": (1_502_928_000_000, 1_553_731_200_000, 1_553_990_400_000, 1_782_864_000_000, 1_783_382_400_000),
    "1w": (1_502_668_800_000,),
    "1M": (1_501_545_600_000,),
}


def test_every_timeframe_has_recorded_open_times() -> None:
    assert list(RECORDED) == list(TIMEFRAMES)


@pytest.mark.parametrize("name", TIMEFRAMES)
def test_open_times_equal_those_of_real_candles(name: str) -> None:
    timeframe = TIMEFRAMES[name]
    for recorded in RECORDED[name]:
        last = timeframe.close_time(recorded) - 1
        assert [timeframe.open_time(time) for time in (recorded, last, last + 1)] == [recorded, recorded, last + 1]
        simulated = opening(LENGTHS_MS[name], np.array([recorded, last, last + 1]))
        assert simulated.tolist() == [recorded, recorded, last + 1]


def test_candles_of_three_days_do_not_restart_with_a_month() -> None:
    openings = list(TIMEFRAMES["3d"].open_times(1_782_864_000_000, 1_782_864_000_000 + 366 * DAY_MS))
    assert {later - earlier for earlier, later in pairwise(openings)} == {3 * DAY_MS}
