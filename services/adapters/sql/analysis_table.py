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
    open_time = analysis.c.timestamp
    in_range = open_time.between(since, until)
    query = select(*_COLUMNS).where(where_series(analysis, series), in_range).order_by(open_time)
    return [_from_row(series, row) for row in (await connection.execute(query)).mappings()]


async def delete_between(connection: AsyncConnection, series: Series, since: int, until: int) -> None:
    """Delete the analyses of candles with open times in [since, until]."""
    in_range = analysis.c.timestamp.between(since, until)
    await connection.execute(delete(analysis).where(where_series(analysis, series), in_range))


async def probe_write(connection: AsyncConnection) -> None:
    """Run a DELETE that changes nothing, but needs the permission and the disk space to write.

    Writer and analyst have the permission.
    """
    await connection.execute(delete(analysis).where(analysis.c.exchange == ""))


def _to_row(computed: Analysis) -> dict[str, str | int]:
    if computed.open_time is None or computed.close is None:
        raise ValueError(f"an analysis without a candle cannot be saved: {computed.series}")
    texts = {name: _encode(getattr(computed, name)).decode() for name in _DECODERS if name != "votes"}
    return {
        **as_columns(computed.series),
        "timestamp": computed.open_time,
        "close": repr(computed.close),
        "candles": computed.candles,
        "trend": computed.trend.direction.value,
        "strength": computed.trend.strength,
        "votes": _encode(computed.trend.votes).decode(),
        **texts,
    }


def _from_row(series: Series, row: RowMapping) -> Analysis:
    texts = {name: decoder.decode(row[name]) for name, decoder in _DECODERS.items()}
    trend = Trend(TrendDirection(row["trend"]), row["strength"], texts.pop("votes"))
    return Analysis(series, row["timestamp"], float(row["close"]), row["candles"], trend, **texts)
