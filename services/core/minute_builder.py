"""Minutes of one series, built from its trades as they come; those of which a trade is missing are left open."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from msgspec import Struct

from services.core.candles import add_trade, empty_bar
from services.core.model import Bar, Candle, CandleSource, Series, Trade
from services.core.timeframes import MINUTE_MS
from services.core.trade_sequencer import ID_RESET_DISTANCE

MAX_LATE_MS = MINUTE_MS  # trades come in the order of their times; one that is so much earlier is no late one
MAX_IDLE_MS = 1440 * MINUTE_MS  # ms; after more without a trade the exchange is asked what was in them


class TradeCursor(Struct, frozen=True):
    """How far the trades of a series are built into its candles; saved with them, so that none is built in twice."""

    series: Series
    trade_id: int  # of the last trade
    time: int  # its time
    complete_since: int  # the time of the first trade after which none is missing


class MinuteBuilder:
    """Where the trades of one series stand. `cursor` and the last candle are what was saved; None: nothing yet."""

    def __init__(self, series: Series, cursor: TradeCursor | None = None, last: Candle | None = None) -> None:
        self.series = series
        self._trade_id = cursor.trade_id if cursor else None  # of the last trade
        self._time, self._complete_since = (cursor.time, cursor.complete_since) if cursor else (0, 0)
        self._open_time = self._time // MINUTE_MS * MINUTE_MS  # of the minute that is being built
        self._bar: Bar | None = None
        self._close: Decimal | None = last.bar.close if last else None
        if cursor:
            self._resume(last)

    def _resume(self, last: Candle | None) -> None:
        if last is None or last.bar.open_time < self._open_time:
            self._complete_since = self._time  # its minute is not kept: what was of it is not known
        elif last.closed or last.bar.open_time > self._open_time:
            self._open_time = last.bar.open_time + MINUTE_MS * last.closed
        else:
            self._bar = last.bar

    @property
    def cursor(self) -> TradeCursor | None:
        """How far it has come."""
        return (
            None
            if self._trade_id is None
            else TradeCursor(self.series, self._trade_id, self._time, self._complete_since)
        )

    def add_trades(self, trades: Iterable[Trade]) -> list[Candle]:
        """More trades; answers the candles that they close, and the forming one. Known trades change nothing."""
        made: list[Candle] = []
        for trade in trades:
            consecutive = self._trade_id is not None and trade.trade_id == self._trade_id + 1
            if not consecutive:
                if self._is_duplicate(trade):
                    continue
                self._complete_since = trade.time
            opening = trade.time // MINUTE_MS * MINUTE_MS
            if trade.time < self._open_time - MAX_LATE_MS:  # what was built was of the future
                self._open_time, self._bar, self._time, self._complete_since = opening, None, trade.time, trade.time
            if opening - self._open_time > MAX_IDLE_MS:
                consecutive, self._complete_since = False, trade.time
            if opening > self._open_time:
                made += self._close_before(opening) if consecutive else self._forming()
                self._open_time, self._bar = opening, None
            self._trade_id, self._close = trade.trade_id, trade.price
            self._time = max(self._time, trade.time)
            if opening == self._open_time:  # else it is late: the exchange's own candle will tell
                self._bar = add_trade(self._bar, trade)
        return [*made, *self._forming()]

    def close_idle(self, until: int) -> list[Candle]:
        """Nothing more was traded before `until`, for certain; answers the candles that this closes."""
        until = until // MINUTE_MS * MINUTE_MS
        return (
            [] if self._trade_id is None or until - self._open_time > MAX_IDLE_MS else list(self._close_before(until))
        )

    def _is_duplicate(self, trade: Trade) -> bool:
        if self._trade_id is None or trade.trade_id > self._trade_id:
            return False
        return trade.trade_id >= self._trade_id - ID_RESET_DISTANCE or trade.time <= self._time

    def _forming(self) -> list[Candle]:
        """The minute that is being built, unless its first trades are not known: it would have a part of its values."""
        if self._bar is None or self._complete_since >= self._open_time:
            return []
        return [Candle(self.series, self._bar, False, CandleSource.TRADES)]

    def _close_before(self, until: int) -> Iterator[Candle]:
        """The minutes before `until`, without those whose first trades are not known."""
        while self._open_time < until:
            bar = self._bar or (empty_bar(self._open_time, self._close) if self._close is not None else None)
            if bar and self._complete_since < self._open_time:
                yield Candle(self.series, bar, True, CandleSource.TRADES)
            self._bar = None
            self._open_time += MINUTE_MS
