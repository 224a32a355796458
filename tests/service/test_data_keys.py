"""The data key of a new person, which a task makes."""

from pathlib import Path

from pydantic import SecretStr

from services.account_changes import Origin, new_person, register
from services.accounts.composition import make_vault
from services.accounts.jobs import run_tasks
from services.adapters import sql
from services.adapters.memory import MemoryBus
from services.adapters.sql import accounts
from services.core.accounts.scopes import PersonRole
from services.core.accounts.secret_keys import format_key
from services.key_files import new_key
from services.settings import Settings
from services.task_publisher import TaskPublisher
from tests.deps import make_deps
from tests.jobs import running_jobs
from tests.waiting import eventually


async def test_registration_makes_a_data_key(tmp_path: Path) -> None:
    url, bus = f"sqlite+aiosqlite:///{tmp_path}/kurs.db", MemoryBus()
    await sql.migrate(url)
    settings = Settings(_env_file=None, master_key=SecretStr(format_key(new_key())))
    deps = make_deps(settings, bus=bus, accounts=accounts.connect(url, TaskPublisher(bus)))
    now = deps.clock.now()
    ann = new_person("ann", "$argon2id$", PersonRole.TRADER, now)
    async with deps.accounts.transaction() as tx:
        await register(tx, ann, Origin(now))
        assert await tx.keys.data_key(ann.id) is None

    async def is_made() -> bool:
        async with deps.accounts.transaction() as tx:
            return await tx.keys.data_key(ann.id) is not None

    async with running_jobs(run_tasks(deps)):
        await eventually(is_made)
    vault = make_vault(deps)
    async with deps.accounts.transaction() as tx:
        sealed = await vault.seal(tx, ann.id, "test", b"secret")
        assert await vault.open(tx, ann.id, "test", sealed) == b"secret"
    await deps.accounts.close()
