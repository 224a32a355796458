"""A series as columns of the tables: exchange, symbol and timeframe."""

from functools import lru_cache

from sqlalchemy import ColumnElement, FromClause, and_

from services.core.model import Instrument, Series


@lru_cache(10_000)
def series_key(series: Series) -> tuple[str, str, str]:
    """Return the columns' values."""
    return series.exchange, str(series.instrument), series.timeframe


def as_columns(series: Series) -> dict[str, str]:
    """Return the values by the columns' names."""
    return dict(zip(("exchange", "symbol", "timeframe"), series_key(series), strict=True))


def where_series(table: FromClause, series: Series) -> ColumnElement[bool]:
    """Return the condition that a row is of the series."""
    return and_(*(table.c[name] == value for name, value in as_columns(series).items()))


def from_row(exchange: str, symbol: str, timeframe: str) -> Series:
    """Return the series of the columns' values."""
    return Series(exchange, Instrument(*symbol.split("-", 2)), timeframe)
