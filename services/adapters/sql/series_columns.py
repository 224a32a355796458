"""How a series is written in the tables: its exchange, its symbol and its timeframe."""

from functools import lru_cache

from sqlalchemy import ColumnElement, FromClause, and_

from services.core.model import Instrument, Series


@lru_cache(10_000)
def key(series: Series) -> tuple[str, str, str]:
    """As it is written."""
    return series.exchange, str(series.instrument), series.timeframe


def as_columns(series: Series) -> dict[str, str]:
    """The same by name."""
    return dict(zip(("exchange", "symbol", "timeframe"), key(series), strict=True))


def where_series(table: FromClause, series: Series) -> ColumnElement[bool]:
    """That a row is of the series."""
    return and_(*(table.c[name] == value for name, value in as_columns(series).items()))


def from_row(exchange: str, symbol: str, timeframe: str) -> Series:
    """Back again."""
    return Series(exchange, Instrument(*symbol.split("-", 2)), timeframe)
