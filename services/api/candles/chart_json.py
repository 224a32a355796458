"""The JSON of candles, and of what stands for missing ones."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from services.api.backfill_status import LoadingStatus
from services.core.candles import to_json
from services.core.decimals import format_decimal
from services.core.model import Candle


class MissingCandle(NamedTuple):
    """A candle that is not stored. `close`: the last one before it, None for null."""

    timestamp: int
    close: Decimal | None


def chart_body(
    symbol: str, timeframe: str, slots: Sequence[Candle | MissingCandle], loading: LoadingStatus | None
) -> bytes:
    """Return the body of `/api/chart-data`."""
    rows = ",".join(_missing_row(slot) if isinstance(slot, MissingCandle) else to_json(slot) for slot in slots)
    more = f',"loading":{msgspec.json.encode(loading._asdict()).decode()}' if loading else ""
    return f'{{"symbol":"{symbol}","timeframe":"{timeframe}","candles":[{rows}]{more}}}'.encode()


def fill_missing(
    candles: Sequence[Candle], open_times: Iterable[int], before: Candle | None, flat: bool
) -> list[Candle | MissingCandle]:
    """Return a slot for each open time, from the first stored candle on.

    `before`: the last candle before them. `flat`: missing candles have the last close.
    """
    by_open_time = {candle.bar.open_time: candle for candle in candles}
    slots: list[Candle | MissingCandle] = []
    last = before
    for open_time in open_times:
        if candle := by_open_time.get(open_time):
            last = candle
            slots.append(candle)
        elif last:
            slots.append(MissingCandle(open_time, last.bar.close if flat else None))
    return slots


def _missing_row(slot: MissingCandle) -> str:
    price, volume = ("null", "null") if slot.close is None else (format_decimal(slot.close), "0")
    return (
        f'{{"timestamp":{slot.timestamp},"open":{price},"high":{price},"low":{price},"close":{price},'
        f'"volume":{volume},"closed":true,"kind":"missing","source":null,"revision":0}}'
    )
