"""One attempt at a claimed task: from its function's start to what is saved of its end."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from enum import Enum, auto

import msgspec

from services.accounts.context import TaskContext
from services.accounts.registry import MAX_ATTEMPTS, TaskSpec
from services.core.bounds import clean_text
from services.core.errors import KursError, UnknownName
from services.core.tasks import AttemptEnd, Task, TaskEvent, event_without_success, retry_delay_ms
from services.log import Redaction
from services.ports import Deps

STOP_TIMEOUT_SECONDS = 3  # in which a function has to end once it is cancelled
MAX_RESULT_BYTES = 8_192
log = logging.getLogger(__name__)


class StopReason(Enum):
    """Why an attempt is stopped before its function has ended."""

    TIME_LIMIT = auto()
    CANCELLED = auto()  # its owner or an operator has requested it
    SHUTDOWN = auto()  # of this process
    LOST = auto()  # another worker may have the task by now


class Attempt:
    """A claimed task whose function runs in this process."""

    def __init__(
        self, deps: Deps, spec: TaskSpec | None, claimed: Task, save_progress: Callable[[int], Awaitable[None]]
    ) -> None:
        self._deps, self._spec, self.claimed = deps, spec, claimed
        self._context = TaskContext(deps, claimed, save_progress)
        self.stop_reason: StopReason | None = None
        self._function: asyncio.Task[bytes] | None = None
        self._stopped = asyncio.Event()

    def stop(self, reason: StopReason) -> None:
        """Cancel the function. The first reason counts, but for the loss of the task, which outweighs all."""
        if self.stop_reason is None or reason is StopReason.LOST:
            self.stop_reason = reason
        self._stopped.set()

    async def run(self) -> AttemptEnd:
        """Run the function to its end, at most for its time limit. Return what is to be saved."""
        self._function = asyncio.create_task(self._call(), name=f"task {self.claimed.name}")
        stopped = asyncio.create_task(self._stopped.wait())
        limit = self._spec.time_limit if self._spec else None
        await asyncio.wait({self._function, stopped}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not self._function.done():
            self.stop(StopReason.TIME_LIMIT)
            await self._cancel_function(self._function)
        return self._end(self._function)

    async def _call(self) -> bytes:
        """Call the function and return its result as JSON, empty for None. Raises whatever it raises."""
        if self._spec is None:
            raise UnknownName(f"there is no task {self.claimed.name!r} in this version of Kurs")
        arguments = []
        if self._spec.arguments:
            arguments.append(msgspec.json.decode(self.claimed.arguments, type=self._spec.arguments))
        result = await self._spec.function(self._context, *arguments)
        encoded = b"" if result is None else msgspec.json.encode(result)
        if len(encoded) > MAX_RESULT_BYTES:
            raise ValueError(f"its result has {len(encoded)} bytes, more than {MAX_RESULT_BYTES}")
        return encoded

    async def _cancel_function(self, function: "asyncio.Task[bytes]") -> None:
        function.cancel()
        await asyncio.wait({function}, timeout=STOP_TIMEOUT_SECONDS)
        if not function.done():
            text = "task %s: its function does not end when it is cancelled, and is left behind"
            log.error(text, self.claimed.name, extra={"task": self.claimed.id})

    def _end(self, function: "asyncio.Task[bytes]") -> AttemptEnd:
        outside_ms = self._context.outside_ms
        if function.done() and not function.cancelled() and function.exception() is None:
            result = function.result().decode() or None
            return AttemptEnd(event=TaskEvent.SUCCEEDED, result=result, outside_ms=outside_ms)
        if self.stop_reason is StopReason.SHUTDOWN:
            return AttemptEnd(event=TaskEvent.RELEASED, outside_ms=outside_ms)
        max_attempts = self._spec.max_attempts if self._spec else MAX_ATTEMPTS
        cancelled = self.stop_reason is StopReason.CANCELLED
        event = event_without_success(self.claimed.attempt, max_attempts, cancel_requested=cancelled)
        due = None
        if event is TaskEvent.RETRIED:
            due = self._deps.clock.now() + retry_delay_ms(self.claimed.attempt, random.random())  # noqa: S311
        error = None if cancelled else self._error_text(function)
        return AttemptEnd(event=event, due=due, error=error, outside_ms=outside_ms)

    def _error_text(self, function: "asyncio.Task[bytes]") -> str:
        """Return why the function has failed, without secrets. An error that is not of Kurs's own is logged too."""
        if self.stop_reason is StopReason.TIME_LIMIT and self._spec:
            return f"it did not end within {self._spec.time_limit:g} s"
        error = None if not function.done() or function.cancelled() else function.exception()
        if error is None:
            return "it was cancelled"
        if not isinstance(error, KursError):
            text = "task %s: attempt %d failed"
            log.warning(text, self.claimed.name, self.claimed.attempt, exc_info=error, extra={"task": self.claimed.id})
        reason = str(error) if isinstance(error, KursError) else f"{type(error).__name__}: {error}"
        return clean_text(Redaction(self._deps.settings.secrets).redact(reason))
