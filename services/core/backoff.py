"""Delays between attempts."""

import random
from collections.abc import Iterator


def delays(first: float = 0.1, limit: float = 10) -> Iterator[float]:
    """Yield seconds between attempts, doubling up to `limit`, with jitter: clients do not return together."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1)  # noqa: S311  nothing secret
        delay = min(delay * 2, limit)
