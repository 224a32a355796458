"""The one log throttle: a failure that repeats is logged at once, but not each time."""

import asyncio
import logging
from collections.abc import Mapping

from services.core.exchange import RateLimit
from services.core.rate_limit import SlidingWindow

LOG_RATE_LIMIT = RateLimit(2, 60)  # lines of one log


class ThrottledLog:
    """A log about one thing that may keep failing. Beyond the limit, lines are left out.

    The field `since_last` of a line counts it and the lines left out since the one before.
    """

    def __init__(self, log: logging.Logger, limit: RateLimit = LOG_RATE_LIMIT) -> None:
        self._log, self._window, self._since_last = log, SlidingWindow(limit), 0

    def warning(self, text: str, *args: object, exc_info: Exception | None = None) -> None:
        """Log a warning within the limit."""
        self.log(logging.WARNING, text, *args, exc_info=exc_info)

    def log(
        self,
        level: int,
        text: str,
        *args: object,
        exc_info: Exception | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Log a line of any level within the limit."""
        now = asyncio.get_running_loop().time()
        self._since_last += 1
        if self._window.delay(now):
            return
        self._window.record(now)
        fields = {**(extra or {}), "since_last": self._since_last}
        self._log.log(level, text, *args, exc_info=exc_info, extra=fields)
        self._since_last = 0
