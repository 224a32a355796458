"""Table `dead_letters`: messages that cannot be processed."""

from collections.abc import Sequence

from msgspec.structs import asdict
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import upsert
from services.adapters.sql.tables import dead_letters
from services.core.dead_letters import MAX_DEAD_LETTERS, DeadLetter, DeadLetterCause


async def save(connection: AsyncConnection, items: Sequence[DeadLetter]) -> None:
    """Save each in place of the one of its id. The oldest above the limit are deleted."""
    await upsert(connection, dead_letters, [asdict(letter) for letter in items[-MAX_DEAD_LETTERS:]])
    newest = select(dead_letters.c.id).order_by(dead_letters.c.time.desc(), dead_letters.c.id).limit(MAX_DEAD_LETTERS)
    if await count(connection) > MAX_DEAD_LETTERS:
        await connection.execute(delete(dead_letters).where(dead_letters.c.id.not_in(newest)))


async def load(connection: AsyncConnection, replay: bool) -> list[DeadLetter]:
    """Load dead letters, oldest first; with `replay` only those to be published again."""
    query = select(dead_letters).order_by(dead_letters.c.time, dead_letters.c.id)
    rows = await connection.execute(query.where(dead_letters.c.replay) if replay else query)
    return [
        DeadLetter(r.id, r.queue, r.kind, r.symbol, DeadLetterCause(r.cause), r.reason, r.time, r.body, r.replay)
        for r in rows
    ]


async def count(connection: AsyncConnection) -> int:
    """Return the number of dead letters."""
    return await connection.scalar(select(func.count()).select_from(dead_letters)) or 0


async def request_replay(connection: AsyncConnection, ids: Sequence[str]) -> None:
    """Mark dead letters to be published again."""
    await connection.execute(update(dead_letters).where(dead_letters.c.id.in_(ids)).values(replay=True))


async def drop(connection: AsyncConnection, ids: Sequence[str], replayed: bool) -> None:
    """Delete dead letters; with `replayed` only those marked for publishing that have not come back since."""
    statement = delete(dead_letters).where(dead_letters.c.id.in_(ids))
    await connection.execute(statement.where(dead_letters.c.replay) if replayed else statement)
