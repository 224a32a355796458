"""What goes on failing, in the log now and then: it is said at once, but not each time."""

import asyncio
import logging

from services.core.exchange import Limit
from services.core.rate_limit import Window

LIMIT = Limit(2, 60)  # lines of the log


class Complaints:
    """Of one thing that may go on failing."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._window = log, Window(LIMIT)

    def say(self, text: str, *words: object, exc_info: Exception | None = None) -> None:
        """Warn, unless it was said too often lately."""
        now = asyncio.get_running_loop().time()
        if not self._window.wait(now):
            self._window.note(now)
            self._log.warning(text, *words, exc_info=exc_info)
