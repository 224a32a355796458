"""How often a forming candle is told of."""

from collections.abc import Iterable

from services.core.model import Candle, Series


class Pace:
    """Closed candles pass at once, forming ones of a series at most every `pace` ms, the newest each time."""

    def __init__(self, pace: int) -> None:
        self._pace = pace
        self._told: dict[Series, int] = {}  # when its forming candle was
        self._waiting: dict[Series, Candle] = {}

    def take(self, candles: Iterable[Candle], now: int) -> list[Candle]:
        """These, and those that waited, as far as they may be told now."""
        closed = [candle for candle in candles if candle.closed]
        for candle in candles:
            waiting = self._waiting.get(candle.series)
            if not candle.closed:
                self._waiting[candle.series] = candle
            elif waiting and waiting.bar.timestamp <= candle.bar.timestamp:
                del self._waiting[candle.series]
        due = [s for s in self._waiting if now - self._told.get(s, now - self._pace) >= self._pace]
        self._told |= dict.fromkeys(due, now)
        return [*closed, *(self._waiting.pop(series) for series in due)]
