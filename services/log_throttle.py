"""The one log throttle: a failure that repeats is logged at once, but not each time."""

import asyncio
import logging

from services.core.exchange import RateLimit
from services.core.rate_limit import SlidingWindow

LOG_RATE_LIMIT = RateLimit(2, 60)  # lines of the log


class ThrottledLog:
    """Of one thing that may go on failing."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._window = log, SlidingWindow(LOG_RATE_LIMIT)

    def warning(self, text: str, *words: object, exc_info: Exception | None = None) -> None:
        """Warn, unless it was said too often lately."""
        now = asyncio.get_running_loop().time()
        if not self._window.delay(now):
            self._window.record(now)
            self._log.warning(text, *words, exc_info=exc_info)
