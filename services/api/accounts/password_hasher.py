"""Hashing of passwords beside the event loop, with bounded memory.

A hash takes 46 MiB and some 65 ms of a core. Two run at a time, so all of them take 92 MiB, whatever is requested.
"""

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from services.api.accounts import metrics
from services.core.accounts.credentials import normalize_password
from services.core.accounts.passwords import NO_PASSWORD, SALT_BYTES, hash_password, verify_password
from services.core.accounts.secret import Secret
from services.core.errors import Overloaded

MAX_RUNNING = 2
MAX_WAITING = 100  # four seconds of work
RETRY_AFTER_SECONDS = 5
NICENESS = 10
T = TypeVar("T")


class PasswordHasher:
    """The hashes of one process, in the order of the requests."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_RUNNING, "password", _yield_to_event_loop)
        self._admitted = 0

    def check_room(self) -> None:
        """Raise Overloaded when no more passwords may wait: before a request costs anything else."""
        if self._admitted >= MAX_RUNNING + MAX_WAITING:
            raise Overloaded(f"{self._admitted} passwords wait for their check: try again", RETRY_AFTER_SECONDS)

    async def hash(self, password: str) -> str:
        """Return the hash of a normalized password. Raises Overloaded."""
        return await self._run(partial(hash_password, password, secrets.token_bytes(SALT_BYTES)))

    async def verify(self, password: Secret, password_hash: str | None) -> bool:
        """Return whether a password is that of a hash. Without a hash it is not, after as much work.

        Raises Overloaded.
        """
        text = normalize_password(password.reveal())
        return await self._run(partial(verify_password, text, password_hash or NO_PASSWORD))

    async def _run(self, work: Callable[[], T]) -> T:
        self.check_room()
        self._admitted += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _measured, work)
        finally:
            self._admitted -= 1


def _measured(work: Callable[[], T]) -> T:
    with metrics.HASH_SECONDS.time():
        return work()


def _yield_to_event_loop() -> None:
    """Let other threads of this process precede this one. Only Linux has priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
