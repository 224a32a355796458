"""How often a forming candle is told of."""

from collections.abc import Iterable

from services.core.model import Candle, Series


class FormingThrottle:
    """Closed candles pass at once, forming ones of a series at most every `pace` ms, the newest each time."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._published_at: dict[Series, int] = {}  # when its forming candle was
        self._pending: dict[tuple[Series, int], Candle] = {}

    def ready(self, candles: Iterable[Candle], now: int) -> list[Candle]:
        """These, and those that waited, as far as they may be told now."""
        closed = [candle for candle in candles if candle.closed]
        for candle in candles:
            if candle.closed:
                self._pending.pop((candle.series, candle.bar.open_time), None)
            else:
                self._pending[candle.series, candle.bar.open_time] = candle
        forming = {series for series, _ in self._pending}
        due = {
            series
            for series in forming
            if now - self._published_at.get(series, now - self._interval_ms) >= self._interval_ms
        }
        self._published_at |= dict.fromkeys(due, now)
        return [*closed, *(self._pending.pop(key) for key in sorted(self._pending) if key[0] in due)]
