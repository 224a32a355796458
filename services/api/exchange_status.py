"""The status of exchanges at a replica."""

from msgspec.structs import replace

from services.core.model import ExchangeStatus
from services.hub import Hub

COLLECTOR_TIMEOUT_MS = 5_000  # without a report, after which a collector counts as dead


def current_status(hub: Hub, exchange: str, now: int) -> ExchangeStatus:
    """Return its collector's last report, or a status that says how long there was none. Times are monotonic."""
    status, fault = hub.exchange_statuses.get(exchange), hub.clock_fault(exchange)
    if status is None:
        reason = "; ".join(filter(None, ["its collector has not reported", fault]))
        return ExchangeStatus(exchange, now, False, "none", "", reason, now, None, 0, False)
    if (unheard := now - status.time) <= COLLECTOR_TIMEOUT_MS:
        return status
    reason = "; ".join(filter(None, [f"its collector has not reported for {unheard / 1000:.0f} s", fault]))
    return replace(status, connected=False, transport="none", reason=reason, since=status.time)
