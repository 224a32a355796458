"""Minute bars from the trades of consecutive files."""

from collections.abc import Iterable, Iterator

from services.archive import binance_rows
from services.archive.binance_files import DataFile
from services.archive.binance_rows import FileReport
from services.core.candles import add_trade, empty_bar
from services.core.model import Bar, Trade
from services.core.timeframes import MINUTE_MS
from services.core.times import format_rfc3339

MAX_EMPTY_MINUTES = 1_440  # filled with empty bars; a longer pause is a gap


class FileMinuteBuilder:
    """Builder of the minutes of one series. It yields a minute once it is known to be complete.

    That is when the next trade by its id is of a later minute, or when the last file's period ends with the minute. A
    missing trade may be of any minute from the trade before it to the trade after it, so these are left out.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None  # of the minute of the last trade
        self._is_complete = True  # whether none of its trades is known to be missing
        self._trade_id = 0  # of the last trade
        self._until = 0  # end of the last file's period, in ms

    def add_file(self, dump: DataFile, report: FileReport) -> Iterator[Bar]:
        """Yield the minutes that one more file completes. Raises BadFile."""
        first = True
        for line, trade in _drop_misdated(binance_rows.trades(dump, report), report):
            if first and self._bar is not None and trade.trade_id != self._trade_id + 1:
                yield from self.finish(report)
            yield from self._add(line, trade, report)
            first, self._until = False, dump.until

    def finish(self, report: FileReport) -> Iterator[Bar]:
        """Yield the minute of the last trade, if complete, and start again with the next file."""
        bar, self._bar = self._bar, None
        if bar is None or not self._is_complete:
            return
        if bar.open_time + MINUTE_MS == self._until:
            yield bar
        else:
            minute = format_rfc3339(bar.open_time)
            report.add_problem(
                f"{minute}, the minute of the last trade: only the next file would show that it is complete"
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
        """Yield the last minute, if complete, and the minutes without trades after it."""
        if self._is_complete:
            yield bar
        if (minute - bar.open_time) // MINUTE_MS <= MAX_EMPTY_MINUTES:
            for opening in range(bar.open_time + MINUTE_MS, minute, MINUTE_MS):
                yield empty_bar(opening, bar.close)


def _drop_misdated(trades: Iterable[tuple[int, Trade]], report: FileReport) -> Iterator[tuple[int, Trade]]:
    """Yield trades without those whose minute is later than the next trade's: such a time is wrong."""
    previous: tuple[int, Trade] | None = None
    for line, trade in trades:
        if previous and previous[1].time // MINUTE_MS > trade.time // MINUTE_MS:
            report.reject_row(
                previous[0], f"its time, {format_rfc3339(previous[1].time)}, is later than that of the next trade"
            )
        elif previous:
            yield previous
        previous = line, trade
    if previous:
        yield previous


def _minutes_text(since: int, until: int) -> str:
    return (
        f"{format_rfc3339(since)} is" if since == until else f"{format_rfc3339(since)} to {format_rfc3339(until)} are"
    )
