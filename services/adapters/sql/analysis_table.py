"""Table `analysis`: an analysis of each closed candle."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import RowMapping, Text, cast, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import merge
from services.adapters.sql.series_columns import as_columns, where_series
from services.adapters.sql.tables import analysis
from services.core.analysis import (
    Analysis,
    NamedPrice,
    Signal,
    SupportResistanceLevel,
    Trend,
    TrendDirection,
    Volatility,
    Vote,
)
from services.core.model import Series

_encode = msgspec.json.Encoder(order="deterministic").encode
_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(kind)
    for name, kind in {
        "votes": tuple[Vote, ...],
        "signals": tuple[Signal, ...],
        "support_levels": tuple[SupportResistanceLevel, ...],
        "resistance_levels": tuple[SupportResistanceLevel, ...],
        "fibonacci_levels": tuple[NamedPrice, ...],
        "pivot_levels": tuple[NamedPrice, ...],
        "volatility": Volatility | None,
        "notes": tuple[str, ...],
    }.items()
}
_COLUMNS = (
    *(analysis.c[name] for name in ("timestamp", "candles", "trend", "strength")),
    *(cast(analysis.c[name], Text).label(name) for name in ("close", *_DECODERS)),
)


async def save(connection: AsyncConnection, items: Sequence[Analysis]) -> None:
    """Save each in place of the one of its candle. Equal rows are not written."""
    await merge(connection, analysis, [_to_row(item) for item in items])


async def load(connection: AsyncConnection, series: Series, since: int, until: int) -> list[Analysis]:
    """Load the analyses of candles with open times in [since, until], oldest first."""
    here = analysis.c.timestamp
    mine = select(*_COLUMNS).where(where_series(analysis, series), here.between(since, until)).order_by(here)
    return [_from_row(series, row) for row in (await connection.execute(mine)).mappings()]


async def delete_between(connection: AsyncConnection, series: Series, since: int, until: int) -> None:
    """Delete the analyses of candles with open times in [since, until]."""
    here = analysis.c.timestamp.between(since, until)
    await connection.execute(delete(analysis).where(where_series(analysis, series), here))


async def probe_write(connection: AsyncConnection) -> None:
    """Run a DELETE that changes nothing, but needs the permission and the disk space to write.

    Writer and analyst have the permission.
    """
    await connection.execute(delete(analysis).where(analysis.c.exchange == ""))


def _to_row(item: Analysis) -> dict[str, str | int]:
    if item.open_time is None or item.close is None:
        raise ValueError(f"an analysis without a candle cannot be saved: {item.series}")
    texts = {name: _encode(getattr(item, name)).decode() for name in _DECODERS if name != "votes"}
    return {
        **as_columns(item.series),
        "timestamp": item.open_time,
        "close": repr(item.close),
        "candles": item.candles,
        "trend": item.trend.direction.value,
        "strength": item.trend.strength,
        "votes": _encode(item.trend.votes).decode(),
        **texts,
    }


def _from_row(series: Series, row: RowMapping) -> Analysis:
    texts = {name: decoder.decode(row[name]) for name, decoder in _DECODERS.items()}
    trend = Trend(TrendDirection(row["trend"]), row["strength"], texts.pop("votes"))
    return Analysis(series, row["timestamp"], float(row["close"]), row["candles"], trend, **texts)
