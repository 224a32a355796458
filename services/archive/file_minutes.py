"""Minutes from trades, over as many files as follow each other."""

from collections.abc import Iterable, Iterator

from services.archive import binance_rows
from services.archive.binance_files import DataFile
from services.archive.binance_rows import FileReport
from services.core.candles import add_trade, empty_bar
from services.core.model import Bar, Trade
from services.core.timeframes import MINUTE_MS
from services.core.times import format_rfc3339

MAX_EMPTY_MINUTES = 1_440  # minutes without a trade that are written as empty ones


class FileMinuteBuilder:
    """The minutes of one series. A minute is given out once it is known to be whole.

    It is when the next trade, by its number, is of a later minute, or when the last file's period ends with it. A trade
    that is missing may be of any minute from that of the trade before to that of the next one: these are left out.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None  # the minute of the last trade
        self._is_complete = True  # whether none of its trades is missing, as far as is known
        self._trade_id = 0  # of the last trade
        self._until = 0  # end of the last file's period

    def add_file(self, dump: DataFile, report: FileReport) -> Iterator[Bar]:
        """The whole minutes that one more file shows. Raises BadFile."""
        first = True
        for line, trade in _drop_misdated(binance_rows.trades(dump, report), report):
            if first and self._bar is not None and trade.trade_id != self._trade_id + 1:
                yield from self.finish(report)
            yield from self._add(line, trade, report)
            first, self._until = False, dump.until

    def finish(self, report: FileReport) -> Iterator[Bar]:
        """The minute of the last trade, if no trade is to follow; the series begins anew."""
        bar, self._bar = self._bar, None
        if bar is None or not self._is_complete:
            return
        if bar.open_time + MINUTE_MS == self._until:
            yield bar
        else:
            minute = format_rfc3339(bar.open_time)
            report.add_problem(
                f"{minute}, the minute of the last trade: only the next file's trades show that it is whole"
            )

    def _add(self, line: int, trade: Trade, report: FileReport) -> Iterator[Bar]:
        minute, bar = trade.time // MINUTE_MS * MINUTE_MS, self._bar
        if bar is None:
            self._is_complete = True
        elif trade.trade_id != self._trade_id + 1:
            reason = f"trade {trade.trade_id} follows {self._trade_id}: {_minutes_text(bar.open_time, minute)} left out"
            report.reject_row(line, reason)
            self._is_complete, bar = False, None
        elif bar.open_time < minute:
            yield from self._close_minute(bar, minute)
            self._is_complete, bar = True, None
        self._bar, self._trade_id = add_trade(bar, trade), trade.trade_id

    def _close_minute(self, bar: Bar, minute: int) -> Iterator[Bar]:
        """The minute before, if it is whole, and those behind it in which nothing was traded."""
        if self._is_complete:
            yield bar
        if (minute - bar.open_time) // MINUTE_MS <= MAX_EMPTY_MINUTES:
            for opening in range(bar.open_time + MINUTE_MS, minute, MINUTE_MS):
                yield empty_bar(opening, bar.close)


def _drop_misdated(trades: Iterable[tuple[int, Trade]], report: FileReport) -> Iterator[tuple[int, Trade]]:
    """Without those whose minute is later than that of the next trade: such a time is wrong."""
    held: tuple[int, Trade] | None = None
    for line, trade in trades:
        if held and held[1].time // MINUTE_MS > trade.time // MINUTE_MS:
            report.reject_row(
                held[0], f"its time, {format_rfc3339(held[1].time)}, is later than that of the next trade"
            )
        elif held:
            yield held
        held = line, trade
    if held:
        yield held


def _minutes_text(since: int, until: int) -> str:
    return (
        f"{format_rfc3339(since)} is" if since == until else f"{format_rfc3339(since)} to {format_rfc3339(until)} are"
    )
