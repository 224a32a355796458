"""Move 3d candles to Binance's grid: 2 January 1970 and every third day after it.

They were counted from 1 January 1970. Candles off the grid are deleted, with everything derived from 3d candles. Closed
days are rolled up to 3d candles here, so that imported history keeps its 3d candles. The others are fetched or rolled
up as usual.
"""

import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DAY = 86_400_000
EXACT = sa.Numeric().with_variant(sa.Text(), "sqlite")
KEY = ("exchange", "symbol", "timeframe")
PRICES = ("open", "high", "low", "close", "volume", "quote_volume")
DERIVED = ("indicators", "analysis", "holes", "seals")
candles = sa.table(
    "candles",
    *(sa.column(name, sa.Text()) for name in KEY),
    sa.column("timestamp", sa.BigInteger()),
    *(sa.column(name, EXACT) for name in PRICES),
    sa.column("trades", sa.BigInteger()),
    sa.column("closed", sa.Boolean()),
    sa.column("source", sa.Text()),
    sa.column("revision", sa.Integer()),
    sa.column("created_at", sa.BigInteger()),
)


def upgrade() -> None:
    """Forward."""
    _regrid(DAY)


def downgrade() -> None:
    """Back."""
    _regrid(0)


def _regrid(origin: int) -> None:
    connection = op.get_bind()
    for table in DERIVED:
        op.execute(f"DELETE FROM {table} WHERE timeframe = '3d'")  # noqa: S608  our own names
    off = (candles.c.timestamp - origin) % (3 * DAY) != 0
    connection.execute(candles.delete().where(candles.c.timeframe == "3d", off))
    daily = candles.c.timeframe == "1d"
    for exchange, symbol in connection.execute(sa.select(*_columns(KEY[:2])).where(daily).distinct()).all():
        mine = sa.and_(candles.c.exchange == exchange, candles.c.symbol == symbol)
        kept = set(connection.scalars(sa.select(candles.c.timestamp).where(mine, candles.c.timeframe == "3d")))
        text = [sa.cast(candles.c[name], sa.Text()).label(name) for name in PRICES]
        days = sa.select(candles.c.timestamp, *text, candles.c.trades).where(mine, daily, candles.c.closed)
        rows = connection.execute(days.order_by(candles.c.timestamp)).all()
        key = {"exchange": exchange, "symbol": symbol, "timeframe": "3d"}
        made = [{**key, **bar} for bar in _rolled_up(rows, origin) if bar["timestamp"] not in kept]
        if connection.dialect.name == "sqlite":  # prices are text there
            made = [bar | {name: f"{bar[name]:f}" for name in PRICES} for bar in made]
        if made:
            connection.execute(candles.insert(), made)


def _columns(names: Iterable[str]) -> list[Any]:
    return [candles.c[name] for name in names]


def _rolled_up(days: Iterable[Any], origin: int) -> Iterator[dict[str, object]]:
    """Yield the 3d candles of which all days are closed."""
    for opening, group in groupby(days, lambda day: (day.timestamp - origin) // (3 * DAY) * (3 * DAY) + origin):
        whole = list(group)
        if len(whole) == 3:
            yield {
                "timestamp": opening,
                "open": Decimal(whole[0].open),
                "high": max(Decimal(day.high) for day in whole),
                "low": min(Decimal(day.low) for day in whole),
                "close": Decimal(whole[-1].close),
                "volume": sum(Decimal(day.volume) for day in whole),
                "quote_volume": sum(Decimal(day.quote_volume) for day in whole),
                "trades": sum(day.trades for day in whole),
                "closed": True,
                "source": "rollup",
                "revision": 0,
                "created_at": time.time_ns() // 1_000_000,
            }
