"""How the exchanges stand, as a replica has heard it."""

from msgspec.structs import replace

from services.core.model import ExchangeStatus
from services.hub import Hub

COLLECTOR_TIMEOUT_MS = 5_000  # ms after which a collector that says nothing is taken for dead


def current_status(hub: Hub, exchange: str, now: int) -> ExchangeStatus:
    """What its collector said last; where that is long ago, or never was, the state says so. Times are monotonic."""
    known, fault = hub.exchange_statuses.get(exchange), hub.clock_fault(exchange)
    if known is None:
        reason = "; ".join(filter(None, ["its collector has not been heard", fault]))
        return ExchangeStatus(exchange, now, False, "none", "", reason, now, None, 0, False)
    if (unheard := now - known.time) <= COLLECTOR_TIMEOUT_MS:
        return known
    reason = "; ".join(filter(None, [f"its collector has not been heard for {unheard / 1000:.0f} s", fault]))
    return replace(known, connected=False, transport="none", reason=reason, since=known.time)
