"""Check of an exchange's events: one that is out of range is counted, and costs only itself."""

import logging
from collections import defaultdict
from collections.abc import Sequence

from services.collector import metrics
from services.core.bounds import clean_text
from services.core.exchange import Event, InvalidValue, validate_events
from services.log_throttle import ThrottledLog

log = logging.getLogger(__name__)


class EventValidator:
    """Validator of one exchange's events."""

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._logs = defaultdict[str, ThrottledLog](lambda: ThrottledLog(log))  # by reason

    def check(self, events: Sequence[Event], latest: int) -> Sequence[Event]:
        """Return the events, an InvalidValue in place of each that is out of range. A time after `latest` is."""
        checked = validate_events(events, latest)
        for event in checked:
            if isinstance(event, InvalidValue):
                self._reject(event)
        return checked

    def _reject(self, event: InvalidValue) -> None:
        metrics.REJECTED.labels(self._exchange, event.reason).inc()
        text, value = "%s: a value is rejected because of its %s: %s", clean_text(f"{event.subject}: {event.detail}")
        self._logs[event.reason].warning(text, self._exchange, event.reason, value)
