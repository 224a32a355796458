"""Table `gaps`: feed gaps, the windows of time in which messages were or may have been lost."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import insert
from services.adapters.sql.tables import gaps
from services.core.model import FeedGap, Instrument


async def save(connection: AsyncConnection, items: Sequence[FeedGap]) -> None:
    """Save each feed gap once."""
    rows = [
        {
            "exchange": gap.exchange,
            "instrument": str(gap.instrument or ""),
            "since": gap.since,
            "until": gap.until,
            "reason": gap.reason,
        }
        for gap in items
    ]
    rows.sort(key=lambda row: tuple(map(str, row.values())))  # the same order in all writers prevents deadlocks
    await connection.execute(insert(connection, gaps).on_conflict_do_nothing(), rows)


async def load(connection: AsyncConnection, since: int, until: int) -> list[FeedGap]:
    """Load feed gaps that overlap [since, until], oldest first."""
    touching = select(gaps).where(gaps.c.until >= since, gaps.c.since <= until)
    rows = await connection.execute(touching.order_by(gaps.c.since, gaps.c.until, gaps.c.exchange, gaps.c.instrument))
    return [FeedGap(row.exchange, row.since, row.until, row.reason, _instrument(row.instrument)) for row in rows]


def _instrument(text: str) -> Instrument | None:
    return Instrument(*text.split("-", 2)) if text else None
