"""The audit log as people read it, and as `kurs verify` checks it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from services.accounts.context import TaskContext
from services.accounts.registry import find_tasks
from services.adapters import sql
from services.adapters.sql import accounts
from services.adapters.sql.engine import make_engine
from services.api.accounts.audit import AuditHandler
from services.api.components import ApiComponents
from services.command_line import parse_command, run_command
from services.core.accounts.audit import AuditEvent, Outcome
from services.core.accounts.scopes import Scope
from services.core.tasks import Task
from services.core.timeframes import DAY_MS
from services.settings import Settings
from services.web import AppSpec, Caller, TokenKind, bind, create_app
from tests.clocks import ManualClock
from tests.deps import make_deps

NOW = 1_800_000_000_000
ADMIN = "root"
TASK = Task(id="1", name="trim_audit_log", due=NOW, created_at=NOW)


class NamesAsTokens:
    """Every token is the name of a person."""

    def cached(self, token: str) -> Caller | None:
        scopes = {Scope.READ, Scope.ADMIN} if token == ADMIN else {Scope.READ}
        return Caller(token, token, TokenKind.ACCESS, frozenset(scopes), "1")

    async def caller(self, token: str) -> Caller:
        caller = self.cached(token)
        assert caller
        return caller


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SimpleNamespace]:
    """An API with an audit log of nine entries."""
    url = f"sqlite+aiosqlite:///{tmp_path}/kurs.db"
    await sql.migrate(url)
    store = accounts.connect(url)
    deps = make_deps(accounts=store)
    app = create_app(deps, AppSpec([], bind(AuditHandler(ApiComponents(deps))), authenticator=NamesAsTokens()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        events = [AuditEvent(action="sign_in", actor="ann", subject="ann", address=f"192.0.2.{n}") for n in range(5)]
        events += [
            AuditEvent(action="sign_in", subject="ann", address="198.51.100.1", agent="x", outcome=Outcome.REFUSED),
            AuditEvent(action="person_disabled", actor=ADMIN, subject="ann", address="10.0.0.1", agent="curl"),
            AuditEvent(action="person_created", actor="operator", subject="bob", detail={"role": "trader"}),
            AuditEvent(action="sign_in", actor="bob", subject="bob"),
        ]
        async with store.transaction() as tx:
            for number, event in enumerate(events):
                await tx.audit.append(event, NOW + number)

        async def get(caller: str, **query: Any) -> httpx.Response:
            return await client.get("/v1/audit", params=query, headers={"authorization": f"Bearer {caller}"})

        yield SimpleNamespace(deps=deps, get=get, url=url, store=store, folder=tmp_path, client=client)
    await store.close()


async def test_people_read_their_own_entries_in_pages(world: SimpleNamespace) -> None:
    seen, cursor = list[int](), dict[str, str]()
    while True:
        page = (await world.get("ann", limit=3, **cursor)).json()
        seen += [entry["seq"] for entry in page["entries"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    page = (await world.get("bob")).json()
    assert [entry["action"] for entry in page["entries"]] == ["sign_in", "person_created"]
    assert page["entries"][1] | {"agent": "", "address": ""} == page["entries"][1]
    assert (page["entries"][1]["time"], page["entries"][1]["detail"]) == (NOW + 7, {"role": "trader"})
    assert (await world.get("carol")).json() == {"entries": [], "next": None}


async def test_person_sees_where_strangers_tried_and_not_where_an_admin_sits(world: SimpleNamespace) -> None:
    disabled, refused = (await world.get("ann", limit=2)).json()["entries"]
    assert (refused["outcome"], refused["actor"], refused["address"]) == ("refused", "", "198.51.100.1")
    assert (disabled["actor"], disabled["address"], disabled["agent"]) == (ADMIN, "", "")
    assert (await world.get(ADMIN, person="ann", limit=1)).json()["entries"][0]["address"] == "10.0.0.1"


async def test_only_an_admin_reads_the_entries_of_others(world: SimpleNamespace) -> None:
    everything = (await world.get(ADMIN, all=True)).json()
    assert [entry["seq"] for entry in everything["entries"]] == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert [entry["seq"] for entry in (await world.get(ADMIN, person="bob")).json()["entries"]] == [9, 8]
    assert [entry["seq"] for entry in (await world.get(ADMIN)).json()["entries"]] == [7]
    for query in ({"all": True}, {"person": "bob"}):
        response = await world.get("ann", **query)
        assert (response.status_code, response.json()["scope"]) == (403, "admin")
    assert (await world.get("ann", person="ann")).status_code == 200
    assert (await world.get("ann", person="ann", all=True)).status_code == 400
    assert (await world.client.get("/v1/audit")).status_code == 401


@pytest.mark.parametrize("cursor", ["x", "MA", "LTE", "NDcxMQ==", "OTk5OTk5OTk5OTk5OTk5OTk5OTk", "é", "A" * 1500])
async def test_cursor_that_is_not_ours_is_refused(world: SimpleNamespace, cursor: str) -> None:
    response = await world.get("ann", cursor=cursor)
    assert (response.status_code, "`next` of the page before" in response.json()["detail"]) == (400, True)


async def verify(folder: Path, *words: str) -> int:
    settings = Settings(_env_file=None, data_dir=folder)
    return await run_command(settings, parse_command("verify", words))


async def test_verify_checks_the_audit_log(world: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    async with world.store.transaction() as tx:
        last = await tx.audit.last()
    assert await verify(world.folder) == 0
    assert f"audit log: as written up to entry 9 of 2027-01-15T08:00:00Z with digest {last.digest}" in (
        capsys.readouterr().out
    )
    engine = make_engine(world.url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE audit SET address = '' WHERE seq = 6"))
    await engine.dispose()
    for words in ((), ("audit",)):
        assert await verify(world.folder, *words) == 1
        assert "audit log: entry 6 is not as it was written" in capsys.readouterr().out


async def test_verify_of_a_new_system_finds_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await sql.migrate(f"sqlite+aiosqlite:///{tmp_path}/kurs.db")
    assert await verify(tmp_path, "audit") == 0
    assert capsys.readouterr().out == "audit log: no entries\n"


async def test_old_entries_are_deleted_daily_and_the_newest_digest_is_logged(
    world: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """Entries are of 2027: with a clock of 2028 all are old."""
    caplog.set_level(logging.INFO)
    deps = replace(world.deps, clock=ManualClock(NOW + 399 * DAY_MS))
    spec = find_tasks()["trim_audit_log"]
    assert spec.every_seconds == 86_400
    for days, deleted in ((0, 0), (1, 0), (2, 9)):
        deps.clock.time = NOW + (399 + days) * DAY_MS
        await spec.function(TaskContext(deps, TASK, lambda _percent: asyncio.sleep(0)))
        assert f"; {deleted} old entries are deleted" in caplog.messages[-1]
    async with world.store.transaction() as tx:
        last = await tx.audit.last()
    assert f"audit log: entry 10 has digest {last.digest}" in caplog.messages[-1]
    assert await verify(world.folder, "audit") == 0
