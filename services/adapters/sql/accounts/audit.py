"""The chained log of what people did."""

from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.account_tables import audit
from services.adapters.sql.rows import to_row, to_struct
from services.core.accounts.audit import AuditEntry, AuditEvent, next_entry, trimmed

LOCK_FAMILY_ID = 7_461_227  # arbitrary, but unique in the database
MAX_SEQ = 2**63 - 1
UNREADABLE = AuditEvent(action="unreadable")
_encode_detail = msgspec.json.Encoder(order="sorted").encode


class SqlAuditLog:
    """The chained log of what people did, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def append(self, event: AuditEvent, now: int) -> AuditEntry:
        """Append an event. Until the transaction ends, others that append wait."""
        await self._lock()
        entry = next_entry(await self.last(), event, now)
        await self._connection.execute(insert(audit).values(_to_row(entry)))
        return entry

    async def last(self) -> AuditEntry | None:
        """Return the newest entry."""
        row = (await self._connection.execute(select(audit).order_by(audit.c.seq.desc()).limit(1))).first()
        return _to_entry(row) if row else None

    async def read(self, person: str | None, before: int, limit: int) -> list[AuditEntry]:
        """Return entries below the number `before`, newest first: a person's as actor or subject, or all."""
        found = select(audit).where(audit.c.seq < before)
        if person is not None:
            numbers = (
                select(audit.c.seq)
                .where(column == person, audit.c.seq < before)
                .order_by(audit.c.seq.desc())
                .limit(limit)
                .subquery()
                for column in (audit.c.actor, audit.c.subject)
            )  # a query for each index
            found = select(audit).where(or_(*(audit.c.seq.in_(select(each)) for each in numbers)))
        return [
            _to_entry(row) for row in await self._connection.execute(found.order_by(audit.c.seq.desc()).limit(limit))
        ]

    async def read_after(self, seq: int, limit: int) -> list[AuditEntry]:
        """Return entries after the number `seq`, oldest first."""
        found = select(audit).where(audit.c.seq > seq).order_by(audit.c.seq).limit(limit)
        return [_to_entry(row) for row in await self._connection.execute(found)]

    async def trim(self, before: int, now: int) -> int:
        """Delete the entries up to the last one before the first that was written at `before` or later.

        An entry is appended that says so. Return how many were deleted.
        """
        await self._lock()
        first_kept = select(func.min(audit.c.seq)).where(audit.c.at >= before).scalar_subquery()
        older = audit.c.seq < func.coalesce(first_kept, MAX_SEQ)
        row = (await self._connection.execute(select(audit).where(older).order_by(audit.c.seq.desc()).limit(1))).first()
        if row is None:
            return 0
        await self.append(trimmed(_to_entry(row)), now)
        return (await self._connection.execute(delete(audit).where(audit.c.seq <= row.seq))).rowcount

    async def _lock(self) -> None:
        """Wait for other transactions that append. SQLite has one that writes at a time anyway."""
        if self._connection.dialect.name == "postgresql":
            lock = text("SELECT pg_advisory_xact_lock(:family, hashtext(current_schema()))")
            await self._connection.execute(lock, {"family": LOCK_FAMILY_ID})


def _to_row(entry: AuditEntry) -> dict[str, Any]:
    own = {name: getattr(entry, name) for name in ("seq", "at", "previous", "digest")}
    return {**own, **to_row(entry.event), "detail": _encode_detail(entry.event.detail).decode()}


def _to_entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(seq=row.seq, at=row.at, event=_to_event(row), previous=row.previous, digest=row.digest)


def _to_event(row: Row[Any]) -> AuditEvent:
    """Return the event of a row. One that was changed to what Kurs never writes does not fit its digest."""
    try:
        event = to_struct({**row._mapping, "detail": msgspec.json.decode(row.detail)}, AuditEvent)
    except msgspec.MsgspecError:
        return UNREADABLE
    return event if _encode_detail(event.detail).decode() == row.detail else UNREADABLE
