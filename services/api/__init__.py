"""The HTTP API and the live streams: rates, exchanges, candles, indicators and analysis."""

from services.api import routes
from services.api.candles.jobs import invalidate_on_candles
from services.api.components import ApiComponents
from services.api.jobs import consume_rates, count_dead_letters, report_freshness
from services.api.routes import checks
from services.api.streams.jobs import consume_indicator_values
from services.ports import Deps
from services.web import Binding, bind, find_handlers, marked

JOBS = [consume_rates, invalidate_on_candles, consume_indicator_values, count_dead_letters, report_freshness]
ROUTERS = [routes.router]
CHECKS = checks
NEEDS = ("rates",)
HANDLERS = find_handlers(__name__, __path__)
ENDPOINTS = [endpoint for handler in HANDLERS for endpoint in marked(handler).values()]


def endpoints(deps: Deps) -> list[Binding]:
    """Return all endpoints of this process, with the handlers that share one set of components."""
    parts = ApiComponents(deps)
    return [binding for handler in HANDLERS for binding in bind(handler(parts))]


__all__ = ["CHECKS", "ENDPOINTS", "JOBS", "NEEDS", "ROUTERS", "endpoints"]
