"""What an exchange says is checked once, here: what is out of range is counted, and costs only itself."""

import logging
from collections.abc import Sequence

from services.collector import metrics
from services.core.bounds import clean_text
from services.core.exchange import Event, InvalidValue, validate_events
from services.ports import Clock

REJECTED_LOG_INTERVAL_MS = 60_000  # ms between two lines of the log on values that were rejected for one reason
log = logging.getLogger(__name__)


class EventValidator:
    """Of one exchange."""

    def __init__(self, exchange: str, clock: Clock) -> None:
        self._exchange, self._clock = exchange, clock
        self._logged_at: dict[str, int] = {}  # by reason: when it was last in the log
        self._unlogged: dict[str, int] = {}  # by reason: how many since then

    def check(self, events: Sequence[Event], latest: int) -> Sequence[Event]:
        """The events, those among them that cannot be so as Rejected. `latest`: what is later is of the future."""
        checked = validate_events(events, latest)
        for event in checked:
            if isinstance(event, InvalidValue):
                self._reject(event)
        return checked

    def _reject(self, event: InvalidValue) -> None:
        reason, now = event.reason, self._clock.monotonic()
        metrics.REJECTED.labels(self._exchange, reason).inc()
        count = self._unlogged[reason] = self._unlogged.get(reason, 0) + 1
        if reason not in self._logged_at or now - self._logged_at[reason] >= REJECTED_LOG_INTERVAL_MS:
            said = clean_text(f"{event.subject}: {event.detail}")
            log.warning("%s: %d refused because of the %s, the last of %s", self._exchange, count, reason, said)
            self._logged_at[reason], self._unlogged[reason] = now, 0
