"""Clocks of one exchange's feed: our wall clock for what is published, and the exchange's own."""

import logging

from services.clock_steps import read_both
from services.collector import metrics
from services.core.clocks import WARNING_OFFSET_MS, ExchangeClock, WallClockOffset
from services.ports import Clock

SKEW_WARNING_AFTER_MS = 5_000  # for which the clocks differ; a moment in which this process was slow looks the same
log = logging.getLogger(__name__)


class FeedClock:
    """Wall time and exchange time as offsets of the monotonic clock, so that setting a wall clock changes no age."""

    def __init__(self, exchange: str, clock: Clock) -> None:
        self._exchange, self._clock = exchange, clock
        self.wall = WallClockOffset(*read_both(clock))
        self.exchange = ExchangeClock(self.wall.offset)
        self._skew_warned = False
        self._agreed_at = clock.monotonic()  # when the two last differed by little

    def wall_now(self) -> int:
        """Return our wall time, which published messages carry."""
        return self.wall.wall_time(self._clock.monotonic())

    def exchange_now(self) -> int:
        """Return the exchange's time, which decides what bars are closed."""
        return self.exchange.now(self._clock.monotonic())

    @property
    def offset(self) -> int | None:
        """By how many ms the exchange's clock is ahead of our wall clock."""
        return self.exchange.offset - self.wall.offset if self.exchange.is_known else None

    def sync(self) -> bool:
        """Follow our wall clock and warn of a difference to the exchange's. Return whether ours was set."""
        was_set = bool(self.wall.update(*read_both(self._clock)))
        if was_set:
            self.exchange.assume(self.wall.offset)
        if self.offset is not None:
            self._report_skew(self.offset)
        return was_set

    def _report_skew(self, offset: int) -> None:
        metrics.CLOCK_OFFSET.labels(self._exchange).set(offset / 1000)
        now = self._clock.monotonic()
        differs = abs(offset) >= (WARNING_OFFSET_MS / 2 if self._skew_warned else WARNING_OFFSET_MS)
        if not differs:
            self._agreed_at = now
        if self._skew_warned and not differs:
            log.info("%s: its clock agrees with ours again", self._exchange)
        elif self._skew_warned or now - self._agreed_at < SKEW_WARNING_AFTER_MS:
            return
        else:
            relation = "behind" if offset < 0 else "ahead of"
            text = "%s: its clock is %.1f s %s ours: candles follow its clock; is this machine's clock right?"
            log.warning(text, self._exchange, abs(offset) / 1000, relation)
        self._skew_warned = differs
