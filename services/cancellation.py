"""Cancellation that a library has lost."""

import asyncio


def is_cancelled() -> bool:
    """Return whether this task was cancelled.

    aio-pika can lose the cancellation of a task that opens or closes one of its channels. A loop that runs until it is
    cancelled asks here before each round.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
