"""Minute candles of one series, built from its trades. A minute of which a trade is missing stays open."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from msgspec import Struct

from services.core.candles import add_trade, empty_bar
from services.core.model import Bar, Candle, CandleSource, Series, Trade
from services.core.timeframes import MINUTE_MS
from services.core.trade_sequencer import ID_RESET_DISTANCE

MAX_LATE_MS = MINUTE_MS  # a trade that is earlier than that is not late: the candles before it were of the future
MAX_IDLE_MS = 1440 * MINUTE_MS  # after more without a trade, the exchange's own klines are requested


class TradeCursor(Struct, frozen=True):
    """The last trade of a series that is in its candles; saved with them, so that no trade is added twice."""

    series: Series
    trade_id: int
    time: int
    complete_since: int  # the time of the trade from which on none is missing


class MinuteBuilder:
    """The minute of one series that is being built. `cursor` and `last` are what was saved, if anything was."""

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
            self._complete_since = self._time  # its minute was not saved, so its trades are unknown
        elif last.closed or last.bar.open_time > self._open_time:
            self._open_time = last.bar.open_time + MINUTE_MS * last.closed
        else:
            self._bar = last.bar

    @property
    def cursor(self) -> TradeCursor | None:
        """The last trade that was added."""
        if self._trade_id is None:
            return None
        return TradeCursor(self.series, self._trade_id, self._time, self._complete_since)

    def add_trades(self, trades: Iterable[Trade]) -> list[Candle]:
        """Add trades; return the candles that they close, and the forming one. A duplicate changes nothing."""
        candles: list[Candle] = []
        for trade in trades:
            consecutive = self._trade_id is not None and trade.trade_id == self._trade_id + 1
            if not consecutive:
                if self._is_duplicate(trade):
                    continue
                self._complete_since = trade.time
            open_time = trade.time // MINUTE_MS * MINUTE_MS
            if trade.time < self._open_time - MAX_LATE_MS:
                self._open_time, self._bar, self._time, self._complete_since = open_time, None, trade.time, trade.time
            if open_time - self._open_time > MAX_IDLE_MS:
                consecutive, self._complete_since = False, trade.time
            if open_time > self._open_time:
                candles += self._close_before(open_time) if consecutive else self._forming()
                self._open_time, self._bar = open_time, None
            self._trade_id, self._close = trade.trade_id, trade.price
            self._time = max(self._time, trade.time)
            if open_time == self._open_time:  # a late trade comes with the exchange's own kline
                self._bar = add_trade(self._bar, trade)
        return [*candles, *self._forming()]

    def close_idle(self, until: int) -> list[Candle]:
        """Close the minutes before `until`, in which there is certainly no further trade; return their candles."""
        until = until // MINUTE_MS * MINUTE_MS
        if self._trade_id is None or until - self._open_time > MAX_IDLE_MS:
            return []
        return list(self._close_before(until))

    def _is_duplicate(self, trade: Trade) -> bool:
        if self._trade_id is None or trade.trade_id > self._trade_id:
            return False
        return trade.trade_id >= self._trade_id - ID_RESET_DISTANCE or trade.time <= self._time

    def _forming(self) -> list[Candle]:
        """The minute that is being built, unless its first trades are unknown: its values would be partial."""
        if self._bar is None or self._complete_since >= self._open_time:
            return []
        return [Candle(self.series, self._bar, False, CandleSource.TRADES)]

    def _close_before(self, until: int) -> Iterator[Candle]:
        """The minutes before `until`, without those whose first trades are unknown."""
        while self._open_time < until:
            bar = self._bar or (empty_bar(self._open_time, self._close) if self._close is not None else None)
            if bar and self._complete_since < self._open_time:
                yield Candle(self.series, bar, True, CandleSource.TRADES)
            self._bar = None
            self._open_time += MINUTE_MS
