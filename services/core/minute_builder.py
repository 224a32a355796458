"""Minutes of one series, built from its trades as they come; those of which a trade is missing are left open."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from msgspec import Struct

from services.core.candles import empty, traded
from services.core.model import Bar, Candle, Origin, Series, Trade
from services.core.timeframes import MINUTE
from services.core.trade_sequencer import REWIND

BACK = MINUTE  # trades come in the order of their times; one that is so much earlier is no late one
SILENCE = 1440 * MINUTE  # ms; after more without a trade the exchange is asked what was in them


class Cursor(Struct, frozen=True):
    """How far the trades of a series are built into its candles; saved with them, so that none is built in twice."""

    series: Series
    number: int  # of the last trade
    time: int  # its time
    since: int  # the time of the first trade after which none is missing


class Minutes:
    """Where the trades of one series stand. `cursor` and the last candle are what was saved; None: nothing yet."""

    def __init__(self, series: Series, cursor: Cursor | None = None, last: Candle | None = None) -> None:
        self.series = series
        self._number = cursor.number if cursor else None  # of the last trade
        self._time, self._since = (cursor.time, cursor.since) if cursor else (0, 0)
        self._opening = self._time // MINUTE * MINUTE  # of the minute that is being built
        self._bar: Bar | None = None
        self._close: Decimal | None = last.bar.close if last else None
        if cursor:
            self._resume(last)

    def _resume(self, last: Candle | None) -> None:
        if last is None or last.bar.timestamp < self._opening:
            self._since = self._time  # its minute is not kept: what was of it is not known
        elif last.closed or last.bar.timestamp > self._opening:
            self._opening = last.bar.timestamp + MINUTE * last.closed
        else:
            self._bar = last.bar

    @property
    def cursor(self) -> Cursor | None:
        """How far it has come."""
        return None if self._number is None else Cursor(self.series, self._number, self._time, self._since)

    def take(self, trades: Iterable[Trade]) -> list[Candle]:
        """More trades; answers the candles that they close, and the forming one. Known trades change nothing."""
        made: list[Candle] = []
        for trade in trades:
            consecutive = self._number is not None and trade.number == self._number + 1
            if not consecutive:
                if self._known(trade):
                    continue
                self._since = trade.time
            opening = trade.time // MINUTE * MINUTE
            if trade.time < self._opening - BACK:  # what was built was of the future
                self._opening, self._bar, self._time, self._since = opening, None, trade.time, trade.time
            if opening - self._opening > SILENCE:
                consecutive, self._since = False, trade.time
            if opening > self._opening:
                made += self._closed(opening) if consecutive else self._forming()
                self._opening, self._bar = opening, None
            self._number, self._close = trade.number, trade.price
            self._time = max(self._time, trade.time)
            if opening == self._opening:  # else it is late: the exchange's own candle will tell
                self._bar = traded(self._bar, trade)
        return [*made, *self._forming()]

    def quiet(self, until: int) -> list[Candle]:
        """Nothing more was traded before `until`, for certain; answers the candles that this closes."""
        until = until // MINUTE * MINUTE
        return [] if self._number is None or until - self._opening > SILENCE else list(self._closed(until))

    def _known(self, trade: Trade) -> bool:
        if self._number is None or trade.number > self._number:
            return False
        return trade.number >= self._number - REWIND or trade.time <= self._time

    def _forming(self) -> list[Candle]:
        """The minute that is being built, unless its first trades are not known: it would have a part of its values."""
        if self._bar is None or self._since >= self._opening:
            return []
        return [Candle(self.series, self._bar, False, Origin.TICKS)]

    def _closed(self, until: int) -> Iterator[Candle]:
        """The minutes before `until`, without those whose first trades are not known."""
        while self._opening < until:
            bar = self._bar or (empty(self._opening, self._close) if self._close is not None else None)
            if bar and self._since < self._opening:
                yield Candle(self.series, bar, True, Origin.TICKS)
            self._bar = None
            self._opening += MINUTE
