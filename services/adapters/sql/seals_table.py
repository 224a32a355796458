"""Table `seals`: the chain of hashes over closed days."""

from collections.abc import Sequence

import sqlalchemy
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import upsert
from services.adapters.sql.series_columns import as_columns, where_series
from services.adapters.sql.tables import seals
from services.core.model import Series
from services.core.seals import Seal
from services.core.timeframes import DAY_MS


async def save(connection: AsyncConnection, items: Sequence[Seal]) -> None:
    """Save each revision of a day's seal."""
    await upsert(connection, seals, [_to_row(seal) for seal in items])


async def load(connection: AsyncConnection, series: Series, since: int, until: int) -> list[Seal]:
    """Load the newest revision of each day in [since, until], oldest first."""
    query = select(seals).where(where_series(seals, series), seals.c.day >= since, seals.c.day <= until)
    newest = {row.day: row for row in await connection.execute(query.order_by(seals.c.day, seals.c.revision))}
    return [
        Seal(series, row.day, row.candles, row.digest, row.previous, row.made, row.revision) for row in newest.values()
    ]


async def delete_from(connection: AsyncConnection, series: Series, since: int) -> None:
    """Delete the seals of the day of `since` and of later days."""
    await connection.execute(sqlalchemy.delete(seals).where(where_series(seals, series), seals.c.day > since - DAY_MS))


def _to_row(seal: Seal) -> dict[str, object]:
    return {
        **as_columns(seal.series),
        "day": seal.day,
        "revision": seal.revision,
        "candles": seal.candles,
        "digest": seal.digest,
        "previous": seal.previous,
        "made": seal.created_at,
    }
