"""Table `rates`: the last known rate of each direction."""

import logging
import time
from collections.abc import Sequence

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import insert
from services.adapters.sql.tables import rates
from services.core.model import Rate
from services.core.sender_clocks import MAX_SKEW_MS

log = logging.getLogger(__name__)


async def save(connection: AsyncConnection, items: Sequence[Rate]) -> None:
    """Save each rate that is not older than the stored one, as in `replaces` of core/stamps.py."""
    latest = time.time_ns() // 1_000_000 + MAX_SKEW_MS
    newest = {str(rate.direction): rate for rate in sorted(items, key=lambda rate: rate.time)}
    new = insert(connection, rates)
    statement = new.on_conflict_do_update(
        index_elements=[rates.c.direction],
        set_={"time": new.excluded.time, "body": new.excluded.body},
        where=or_(rates.c.time > latest, new.excluded.time.between(rates.c.time, latest)),
    )
    # the same order in all writers prevents deadlocks
    rows = [
        {"direction": direction, "time": rate.time, "body": msgspec.json.encode(rate).decode()}
        for direction, rate in sorted(newest.items())
    ]
    await connection.execute(statement, rows)


async def load(connection: AsyncConnection) -> list[Rate]:
    """Load all rates, without those of another version of Kurs that this version cannot decode."""
    items = []
    for row in await connection.execute(select(rates).order_by(rates.c.direction)):
        try:
            items.append(msgspec.json.decode(row.body, type=Rate))
        except msgspec.MsgspecError as error:
            log.warning("store: the rate of %s cannot be decoded and is ignored: %s", row.direction, error)
    return items
