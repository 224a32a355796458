"""Minutes from trades, over as many files as follow each other."""

from collections.abc import Iterable, Iterator

from services.archive import binance_rows
from services.archive.binance_files import Dump
from services.archive.binance_rows import Report
from services.core.candles import empty, traded
from services.core.model import Bar, Trade
from services.core.timeframes import MINUTE
from services.core.times import written

LONGEST_SILENCE = 1_440  # minutes without a trade that are written as empty ones


class Minutes:
    """The minutes of one series. A minute is given out once it is known to be whole.

    It is when the next trade, by its number, is of a later minute, or when the last file's period ends with it. A trade
    that is missing may be of any minute from that of the trade before to that of the next one: these are left out.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None  # the minute of the last trade
        self._whole = True  # whether none of its trades is missing, as far as is known
        self._number = 0  # of the last trade
        self._until = 0  # end of the last file's period

    def of(self, dump: Dump, report: Report) -> Iterator[Bar]:
        """The whole minutes that one more file shows. Raises BadFile."""
        first = True
        for line, trade in _in_order(binance_rows.trades(dump, report), report):
            if first and self._bar is not None and trade.number != self._number + 1:
                yield from self.last(report)
            yield from self._add(line, trade, report)
            first, self._until = False, dump.until

    def last(self, report: Report) -> Iterator[Bar]:
        """The minute of the last trade, if no trade is to follow; the series begins anew."""
        bar, self._bar = self._bar, None
        if bar is None or not self._whole:
            return
        if bar.timestamp + MINUTE == self._until:
            yield bar
        else:
            minute = written(bar.timestamp)
            report.add(f"{minute}, the minute of the last trade: only the next file's trades show that it is whole")

    def _add(self, line: int, trade: Trade, report: Report) -> Iterator[Bar]:
        minute, bar = trade.time // MINUTE * MINUTE, self._bar
        if bar is None:
            self._whole = True
        elif trade.number != self._number + 1:
            reason = f"trade {trade.number} follows {self._number}: {_minutes(bar.timestamp, minute)} left out"
            report.leave_out(line, reason)
            self._whole, bar = False, None
        elif bar.timestamp < minute:
            yield from self._passed(bar, minute)
            self._whole, bar = True, None
        self._bar, self._number = traded(bar, trade), trade.number

    def _passed(self, bar: Bar, minute: int) -> Iterator[Bar]:
        """The minute before, if it is whole, and those behind it in which nothing was traded."""
        if self._whole:
            yield bar
        if (minute - bar.timestamp) // MINUTE <= LONGEST_SILENCE:
            for opening in range(bar.timestamp + MINUTE, minute, MINUTE):
                yield empty(opening, bar.close)


def _in_order(trades: Iterable[tuple[int, Trade]], report: Report) -> Iterator[tuple[int, Trade]]:
    """Without those whose minute is later than that of the next trade: such a time is wrong."""
    held: tuple[int, Trade] | None = None
    for line, trade in trades:
        if held and held[1].time // MINUTE > trade.time // MINUTE:
            report.leave_out(held[0], f"its time, {written(held[1].time)}, is later than that of the next trade")
        elif held:
            yield held
        held = line, trade
    if held:
        yield held


def _minutes(since: int, until: int) -> str:
    return f"{written(since)} is" if since == until else f"{written(since)} to {written(until)} are"
