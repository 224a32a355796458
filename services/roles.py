"""Roles: the jobs of a service of which only one process may run; in the other processes they stand by."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from services.adapters.retry import retry_until_available
from services.core.errors import Misconfigured
from services.leases import Lease, LeaseGuard
from services.ports import Deps

Job = Callable[[Deps], Coroutine[Any, Any, None]]
log = logging.getLogger(__name__)


class Role:
    """A service's role in this process.

    `writes`: it also holds the role in the store, because a process on another bus must not write there. `may_wait`:
    it waits while another process holds the role; otherwise that is an error.
    """

    def __init__(self, name: str, jobs: Sequence[Job], deps: Deps, writes: bool, may_wait: bool = True) -> None:
        self.name, self._jobs, self._deps, self._writes, self._may_wait = name, jobs, deps, writes, may_wait
        self._idle_reason = "has not started yet"  # "": its jobs run
        self._lease = Lease()

    async def run(self) -> None:
        """Run the jobs while this process holds the role, until a job ends. Raises the job's error, Misconfigured."""
        while True:
            async with self._deps.bus.hold_role(self.name, self._on_wait) as lease:
                self._lease = lease
                if await _run_while_held(lease, self._run_with_store(_guard_deps(self._deps, lease))):
                    return
            self._on_lost()

    async def check(self) -> str:
        """Return why the jobs do not run, "" if they do, for /readyz. A standby is ready."""
        sure = self._idle_reason or self._lease.is_valid()
        return self._idle_reason if sure else "cannot confirm that it still has its role"

    async def _run_with_store(self, deps: Deps) -> None:
        if not self._writes:
            return await self._run_jobs(deps)
        await retry_until_available(self._deps.store.check)
        while True:
            elected = not self._deps.settings.in_memory
            async with self._deps.store.hold_role(self.name, self._on_wait, elected) as lease:
                if await _run_while_held(lease, self._run_jobs(deps)):
                    return None
            self._on_lost()

    async def _run_jobs(self, deps: Deps) -> None:
        if self._idle_reason.startswith("stands by"):
            log.warning("role %s: this process takes over", self.name)
        self._idle_reason = ""
        await run_until_first_ends([asyncio.create_task(job(deps), name=job.__qualname__) for job in self._jobs])

    def _on_wait(self, holder: str) -> None:
        if not self._may_wait:
            raise Misconfigured(f"{holder} is the {self.name} here: stop it, or use its bus by the same RABBITMQ_URL")
        self._idle_reason = f"stands by: {holder} is the {self.name}"
        log.warning("role %s: %s", self.name, self._idle_reason)

    def _on_lost(self) -> None:
        self._idle_reason = "has lost its role, and waits to get it again"
        log.warning("role %s: %s", self.name, self._idle_reason)


async def run_until_first_ends(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Run tasks until the first one ends, cancel the others, and raise what it raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _guard_deps(deps: Deps, lease: Lease) -> Deps:
    """Return ports that publish, cache and save only while the lease is valid."""
    bus = LeaseGuard(deps.bus, lease, deps.bus.publish)
    journal = LeaseGuard(deps.journal, lease, deps.journal.append)
    cache = LeaseGuard(deps.cache, lease, deps.cache.put_latest)
    store = LeaseGuard(
        deps.store, lease, deps.store.save, deps.store.delete_derived, deps.store.delete_indicator_values
    )
    return replace(deps, bus=bus, journal=journal, cache=cache, store=store)


async def _run_while_held(lease: Lease, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` until it ends or the lease is lost, which cancels it. Return whether it ended; raises its error."""
    lost = lease.lost
    working, losing = asyncio.create_task(work), asyncio.create_task(lost.wait())
    try:
        await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        if lost.is_set():
            return False
        working.result()
        return True
    finally:
        for task in (working, losing):
            task.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)
