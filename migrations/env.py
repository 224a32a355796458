"""Alembic's environment: it runs migrations on the connection of `services.adapters.sql.migrate`, or from its own
command line on the configured database.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection

from services import settings
from services.adapters.sql import account_tables
from services.adapters.sql.engine import make_engine
from services.adapters.sql.market_databases import market_url
from services.adapters.sql.partitions import include_name
from services.core.markets import LIVE, SIMULATED


def run(connection: Connection) -> None:
    """Run the requested migrations. In batches, because SQLite alters a table by copying it."""
    context.configure(
        connection=connection,
        target_metadata=account_tables.persons.metadata,
        render_as_batch=True,
        include_name=include_name,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_from_command_line() -> None:
    """`alembic revision --autogenerate -m …`, `alembic current`, `alembic upgrade head`."""
    known = settings.load()
    market = SIMULATED if known.market == SIMULATED else LIVE
    engine = make_engine(market_url(known.database_url_of(market), market))
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


if "connection" in context.config.attributes:
    run(context.config.attributes["connection"])
else:
    asyncio.run(run_from_command_line())
