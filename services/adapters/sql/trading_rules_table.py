"""Table `trading_rules`: what an exchange accepts in an order of each instrument."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import upsert
from services.adapters.sql.tables import trading_rules
from services.core.model import Instrument
from services.core.trading_rules import TradingRules

_DECIMALS = ("tick_size", "step_size", "min_size", "min_notional", "maker_fee", "taker_fee")


async def save(connection: AsyncConnection, items: Sequence[TradingRules]) -> None:
    """Save each in place of the one of its exchange and symbol."""
    as_stored = str if connection.dialect.name == "sqlite" else Decimal
    await upsert(connection, trading_rules, [_to_row(item, as_stored) for item in items])


async def load(connection: AsyncConnection, exchange: str | None) -> list[TradingRules]:
    """Load the rules of one exchange or of all, in the order of exchange and symbol."""
    query = select(trading_rules)
    rows = await connection.execute(query if exchange is None else query.where(trading_rules.c.exchange == exchange))
    return sorted(map(_to_rules, rows), key=lambda rules: (rules.exchange, rules.symbol))  # in any collation


def _to_row(rules: TradingRules, as_stored: type[str | Decimal]) -> dict[str, Any]:
    row = {name: getattr(rules, name) for name in rules.__struct_fields__} | {"instrument": str(rules.instrument)}
    return row | {name: None if row[name] is None else as_stored(row[name]) for name in _DECIMALS}


def _to_rules(row: Row[Any]) -> TradingRules:
    values = dict(row._mapping)
    decimals = {name: None if values[name] is None else Decimal(values[name]) for name in _DECIMALS}
    return TradingRules(**values | decimals | {"instrument": Instrument(*row.instrument.split("-", 2))})
