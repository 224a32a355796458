"""How often a forming candle is told of."""

from collections.abc import Iterable

from services.core.model import Candle, Series


class Pace:
    """Closed candles pass at once, forming ones of a series at most every `pace` ms, the newest each time."""

    def __init__(self, pace: int) -> None:
        self._pace = pace
        self._told: dict[Series, int] = {}  # when its forming candle was
        self._waiting: dict[tuple[Series, int], Candle] = {}

    def take(self, candles: Iterable[Candle], now: int) -> list[Candle]:
        """These, and those that waited, as far as they may be told now."""
        closed = [candle for candle in candles if candle.closed]
        for candle in candles:
            if candle.closed:
                self._waiting.pop((candle.series, candle.bar.timestamp), None)
            else:
                self._waiting[candle.series, candle.bar.timestamp] = candle
        forming = {series for series, _ in self._waiting}
        due = {series for series in forming if now - self._told.get(series, now - self._pace) >= self._pace}
        self._told |= dict.fromkeys(due, now)
        return [*closed, *(self._waiting.pop(key) for key in sorted(self._waiting) if key[0] in due)]
