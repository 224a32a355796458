"""Table `indicators`: indicator values at closed candles."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Text, cast, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import merge
from services.adapters.sql.series_columns import as_columns, where_series
from services.adapters.sql.tables import indicators
from services.core.model import IndicatorValue, Series

_encode = msgspec.json.Encoder(order="deterministic").encode
_values = msgspec.json.Decoder(dict[str, float | None])


async def save(connection: AsyncConnection, items: Sequence[IndicatorValue]) -> None:
    """Save each in place of the one of its candle. Equal rows are not written."""
    await merge(connection, indicators, [_to_row(item) for item in items])


async def load(connection: AsyncConnection, series: Series, since: int, until: int) -> list[IndicatorValue]:
    """Load the values at candles with open times in [since, until], oldest first."""
    open_time, name = indicators.c.timestamp, indicators.c.indicator_name
    query = select(name, open_time, cast(indicators.c.value, Text).label("value")).where(
        where_series(indicators, series), open_time.between(since, until)
    )
    return [
        IndicatorValue(series, row.indicator_name, row.timestamp, _values.decode(row.value), True)
        for row in await connection.execute(query.order_by(open_time, name))
    ]


async def delete_between(connection: AsyncConnection, series: Series, since: int, until: int) -> None:
    """Delete the values at candles with open times in [since, until]."""
    in_range = indicators.c.timestamp.between(since, until)
    await connection.execute(delete(indicators).where(where_series(indicators, series), in_range))


def _to_row(reading: IndicatorValue) -> dict[str, str | int]:
    return {
        **as_columns(reading.series),
        "indicator_name": reading.indicator,
        "timestamp": reading.open_time,
        "value": _encode(reading.values).decode(),
    }
