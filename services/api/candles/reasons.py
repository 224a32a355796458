"""Why candles are missing, for a person to read."""

from collections.abc import Iterable, Iterator

from services.core.exchange import Exchange
from services.core.model import CandleGap, ExchangeStatus, FeedGap, FeedStatus, SeriesProgress
from services.core.timeframes import TIMEFRAMES


def feed_gap_reasons(hole: CandleGap, gaps: Iterable[FeedGap]) -> list[str]:
    """Return why messages of the exchange were lost while the candles formed, each reason once."""
    series, end = hole.series, TIMEFRAMES[hole.series.timeframe].close_time(hole.until)
    touching = (
        gap.reason
        for gap in gaps
        if gap.exchange == series.exchange
        and gap.instrument in (None, series.instrument)
        and gap.since < end
        and gap.until >= hole.since
    )
    return list(dict.fromkeys(touching))


def pending_reasons(
    hole: CandleGap, exchange: Exchange | None, state: ExchangeStatus, loading: SeriesProgress | None, now: int
) -> Iterator[str]:
    """Return why candles are still missing. `exchange`: the one that has them."""
    if exchange is None:
        yield "no collector has it: name it in KURS_SYMBOLS, or import it"
        return
    timeframe, native = TIMEFRAMES[hole.series.timeframe], exchange.kline_timeframes(hole.series.instrument)
    if timeframe.child and timeframe.name not in native:
        yield f"{exchange.name} has no {timeframe.name}: it is rolled up from {timeframe.child}, and some are missing"
    if not state.connected:
        yield f"{state.exchange}: {state.reason}"
    if any(
        source.instrument == hole.series.instrument and source.status is FeedStatus.ABSENT for source in state.feeds
    ):
        yield f"{state.exchange} does not trade it"
    if (over := timeframe.close_time(hole.until)) + exchange.kline_delay_seconds * 1000 > now:
        yield f"it ended {(now - over) // 1000} s ago and is requested within {exchange.kline_delay_seconds:g} s"
    elif loading and loading.missing:
        yield f"history is being loaded: {loading.missing} candles to go"
    if loading and loading.reason and state.connected:
        yield f"{state.exchange}: {loading.reason}"
