"""Rate limit of what is published of forming candles."""

from collections.abc import Iterable

from services.core.model import Candle, Series


class FormingThrottle:
    """Closed candles pass at once, forming ones of a series at most every `interval_ms`, the newest each time."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._published_at: dict[Series, int] = {}  # by the monotonic clock, in ms
        self._pending: dict[tuple[Series, int], Candle] = {}

    def ready(self, candles: Iterable[Candle], now: int) -> list[Candle]:
        """Add candles. Return those to publish now, pending ones among them."""
        closed = [candle for candle in candles if candle.closed]
        for candle in candles:
            if candle.closed:
                self._pending.pop((candle.series, candle.bar.open_time), None)
            else:
                self._pending[candle.series, candle.bar.open_time] = candle
        due = {series for series in {series for series, _ in self._pending} if self._is_due(series, now)}
        self._published_at |= dict.fromkeys(due, now)
        return [*closed, *(self._pending.pop(key) for key in sorted(self._pending) if key[0] in due)]

    def _is_due(self, series: Series, now: int) -> bool:
        return now - self._published_at.get(series, now - self._interval_ms) >= self._interval_ms
