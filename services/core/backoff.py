"""How long to wait before trying again."""

import random
from collections.abc import Iterator


def delays(first: float = 0.1, limit: float = 10) -> Iterator[float]:
    """Seconds between tries: doubling up to `limit`, each shortened by chance so that many do not come back at once."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1)  # noqa: S311  nothing secret
        delay = min(delay * 2, limit)
