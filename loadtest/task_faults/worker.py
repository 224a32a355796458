"""A process that runs tasks as `kurs accounts` does, but tasks that fail, hang, block it and kill it.

The URLs of database and bus are its arguments.
"""

import asyncio
import logging
import os
import random
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress

import uvloop

from services import log
from services.accounts.context import TaskContext
from services.accounts.registry import TaskSpec
from services.accounts.sweep import Sweep
from services.accounts.workers import Workers
from services.bootstrap import open_adapters
from services.core.errors import Unavailable
from services.core.markets import LIVE
from services.core.tasks import TaskTiming
from services.settings import Settings
from services.watchdog import watch_event_loop

# Quicker than in production, so that a run of minutes sees many lost workers.
TIMING = TaskTiming(heartbeat=0.5, sweep=0.25, lease_sweeps=16, unclaimed_ms=2_000, shutdown=1)
READY = "ready to run tasks"


async def work(_context: TaskContext) -> None:
    """Work for a few ms."""
    await asyncio.sleep(random.random() / 100)


async def fail(_context: TaskContext) -> None:
    """Fail after a few ms."""
    await asyncio.sleep(random.random() / 100)
    raise Unavailable("this one always fails")


async def hang(_context: TaskContext) -> None:
    """Never end, not even when cancelled."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def block(_context: TaskContext) -> None:
    """Stop the event loop."""
    time.sleep(3600)  # noqa: ASYNC251


async def die(_context: TaskContext) -> None:
    """End the process."""
    os.kill(os.getpid(), signal.SIGKILL)


SPECS = {
    "work": TaskSpec("work", work, max_attempts=10),
    "fail": TaskSpec("fail", fail, max_attempts=2),
    "hang": TaskSpec("hang", hang, time_limit=1, max_attempts=2),
    "block": TaskSpec("block", block, max_attempts=2),
    "die": TaskSpec("die", die, max_attempts=2),
}


async def run(database: str, bus: str) -> None:
    """Run tasks until SIGTERM."""
    settings = Settings(_env_file=None, DATABASE_URL=database, RABBITMQ_URL=bus)
    log.setup("INFO", {}, settings.secrets)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with AsyncExitStack() as stack:
        deps = await open_adapters(settings, LIVE, (), stack, owns=False)
        stack.enter_context(watch_event_loop(limit=round(TIMING.lease)))
        workers = Workers(deps, SPECS, TIMING)
        jobs = [Sweep(deps, SPECS, TIMING, workers.begin).run(), workers.run()]
        running = [asyncio.create_task(job) for job in jobs]
        logging.getLogger("services").info(READY)
        await asyncio.wait([asyncio.create_task(stopped.wait()), *running], return_when=asyncio.FIRST_COMPLETED)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(*sys.argv[1:]))
