"""The audit log: a chain without gaps under load, whose faults are found, on either database."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.account_ports import AccountStore
from services.adapters.sql.engine import make_engine
from services.core.accounts.audit import TRIMMED, AuditChain, AuditEntry, AuditEvent, Outcome

DAY = 86_400_000
# How a row behind the log's back is changed, and what the check says.
FAULTS = {
    "UPDATE audit SET subject = 'q' WHERE seq = 4": "entry 4 is not as it was written",
    "UPDATE audit SET at = at + 1 WHERE seq = 1": "entry 1 is not as it was written",
    "UPDATE audit SET outcome = 'maybe' WHERE seq = 10": "entry 10 is not as it was written",
    "UPDATE audit SET detail = 'x' WHERE seq = 4": "entry 4 is not as it was written",
    """UPDATE audit SET detail = '{"n":"9","n":"4"}' WHERE seq = 4""": "entry 4 is not as it was written",
    "UPDATE audit SET digest = previous WHERE seq = 4": "entry 4 is not as it was written",
    "DELETE FROM audit WHERE seq = 4": "between entries 3 and 5 others are missing",
    "DELETE FROM audit WHERE seq < 4": "entries before 4 are missing",
    "UPDATE audit SET seq = 11 WHERE seq = 4": "between entries 3 and 5 others are missing",
    "UPDATE audit SET seq = 0 WHERE seq = 1": "entry 0 is not as it was written",
    "INSERT INTO audit SELECT 11, at, actor, subject, action, outcome, address, agent, detail, previous, digest "
    "FROM audit WHERE seq = 10": "entry 11 is not as it was written",
    "UPDATE audit SET seq = CASE seq WHEN 4 THEN -5 ELSE -4 END WHERE seq IN (4, 5); "
    "UPDATE audit SET seq = -seq WHERE seq < 0": "entry 4 is not as it was written",
}


@pytest.fixture
async def database(url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(url)
    yield engine
    await engine.dispose()


async def append(store: AccountStore, *events: AuditEvent, at: int = 1_000) -> list[AuditEntry]:
    async with store.transaction() as tx:
        return [await tx.audit.append(event, at) for event in events]


async def stored(store: AccountStore) -> list[AuditEntry]:
    async with store.transaction() as tx:
        return await tx.audit.read_after(0, 1_000)


async def fault(store: AccountStore) -> str:
    """Return what a check in parts says, as `kurs verify` does it."""
    chain, part = AuditChain(), list[AuditEntry]()
    while True:
        async with store.transaction() as tx:
            part = await tx.audit.read_after(part[-1].seq if part else -1, 3)
        if not part:
            return chain.end()
        if found := chain.add(part):
            return found


def numbered(count: int) -> list[AuditEvent]:
    return [AuditEvent(action="sign_in", actor="p", subject="p", detail={"n": str(n + 1)}) for n in range(count)]


async def test_parallel_transactions_append_a_chain_without_gaps(account_store: AccountStore) -> None:
    """Fifty transactions append at once, one in five fails and leaves no number unused."""

    async def act(number: int) -> None:
        async with account_store.transaction() as tx:
            await tx.audit.append(AuditEvent(action="first", detail={"n": str(number)}), number)
            await tx.audit.append(AuditEvent(action="second", detail={"n": str(number)}), number)
            if number % 5 == 0:
                raise ZeroDivisionError

    results = await asyncio.gather(*map(act, range(50)), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError, *[type(None)] * 4] * 10
    entries = await stored(account_store)
    assert [entry.seq for entry in entries] == [*range(1, 81)]
    pairs = list(zip(entries[::2], entries[1::2], strict=True))
    assert all(first.at == second.at and first.event.action == "first" for first, second in pairs)
    assert await fault(account_store) == ""


async def test_entry_is_read_as_it_was_written(account_store: AccountStore) -> None:
    event = AuditEvent(
        action="sign_in",
        actor="p",
        subject="q",
        address="2001:db8::/64",
        agent="Ünï 🦄\x00\r\n\ud800",
        outcome=Outcome.REFUSED,
        detail={"z": "1", "a": "x" * 1_000},
    )
    (written,) = await append(account_store, event)
    assert await stored(account_store) == [written]
    assert (written.event.agent, written.event.detail["a"]) == ("Ünï 🦄" + "\ufffd" * 4, "x" * 300)
    assert await fault(account_store) == ""


async def test_person_reads_the_entries_that_name_them(account_store: AccountStore) -> None:
    names = [("p", "q"), ("q", "q"), ("q", "p"), ("p", "p"), ("q", "r"), ("p", "p")]
    await append(account_store, *(AuditEvent(action="x", actor=actor, subject=subject) for actor, subject in names))

    async def read(person: str | None, before: int, limit: int) -> list[int]:
        async with account_store.transaction() as tx:
            return [entry.seq for entry in await tx.audit.read(person, before, limit)]

    assert await read("p", 1_000, 10) == [6, 4, 3, 1]
    assert await read("p", 6, 2) == [4, 3]
    assert await read("r", 1_000, 1) == [5]
    assert await read(None, 1_000, 3) == [6, 5, 4]
    assert await read("s", 1_000, 3) == []


@pytest.mark.parametrize("statements", FAULTS)
async def test_change_behind_the_log_is_found(
    account_store: AccountStore, database: AsyncEngine, statements: str
) -> None:
    await append(account_store, *numbered(10))
    assert await fault(account_store) == ""
    async with database.begin() as connection:
        for statement in statements.split("; "):
            await connection.execute(text(statement.replace(":", r"\:")))
    assert (await fault(account_store)).startswith(FAULTS[statements])


async def test_edit_with_a_new_digest_breaks_the_next_link(account_store: AccountStore, database: AsyncEngine) -> None:
    """A forger of an entry has to write every later entry again, which changes the newest digest."""
    entries = await append(account_store, *numbered(3))
    forged = await append(account_store, AuditEvent(action="forged"))
    async with database.begin() as connection:
        await connection.execute(text("DELETE FROM audit WHERE seq = 2"))
        await connection.execute(text("UPDATE audit SET seq = 2 WHERE seq = 4"))
    assert entries[1].digest != forged[0].digest
    assert await fault(account_store) == "entry 2 is not as it was written"


async def test_old_entries_are_deleted_and_the_rest_still_verifies(account_store: AccountStore) -> None:
    """The clock went back once: what was written in between goes with its neighbours."""
    for at in (1, 5, 2, 6, 3, 7):
        await append(account_store, AuditEvent(action="x"), at=at * DAY)

    async def trim(before: int) -> tuple[int, list[int]]:
        async with account_store.transaction() as tx:
            deleted = await tx.audit.trim(before * DAY, 8 * DAY)
        assert await fault(account_store) == ""
        return deleted, [entry.seq for entry in await stored(account_store)]

    assert await trim(1) == (0, [1, 2, 3, 4, 5, 6])
    assert await trim(2) == (1, [2, 3, 4, 5, 6, 7])
    assert await trim(6) == (2, [4, 5, 6, 7, 8])
    assert [entry.event.action for entry in await stored(account_store)][-2:] == [TRIMMED, TRIMMED]
    assert await trim(100) == (5, [9])
    assert await trim(100) == (1, [10])


async def test_empty_log_is_intact(account_store: AccountStore) -> None:
    assert await fault(account_store) == ""
    async with account_store.transaction() as tx:
        assert (await tx.audit.last(), await tx.audit.trim(DAY, DAY)) == (None, 0)
