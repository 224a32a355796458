"""The HTTP API and the live streams: rates, exchanges, candles, indicators and analysis."""

from functools import partial

from services.api import routes
from services.api.accounts.first_admin import print_first_admin_code
from services.api.candles.jobs import invalidate_on_candles
from services.api.components import ApiComponents
from services.api.jobs import consume_rates, count_dead_letters, report_freshness
from services.api.routes import checks
from services.api.streams.caller_check import CallerCheck
from services.api.streams.jobs import consume_indicator_values
from services.ports import Deps
from services.web import Binding, Composition, bind, find_handlers, marked

JOBS = [
    consume_rates,
    invalidate_on_candles,
    consume_indicator_values,
    count_dead_letters,
    report_freshness,
]
ROUTERS = [routes.router]
CHECKS = checks
NEEDS = ("rates",)
HANDLERS = find_handlers(__name__, __path__)
ENDPOINTS = [endpoint for handler in HANDLERS for endpoint in marked(handler).values()]


def compose(deps: Deps) -> Composition:
    """Return all endpoints of this process and the jobs beside them. They share one set of components."""
    parts = ApiComponents(deps)
    check = CallerCheck(parts.streams.broadcaster, parts.accounts.authenticator, deps.clock)
    bindings = [binding for handler in HANDLERS for binding in bind(handler(parts))]
    return Composition(
        bindings,
        [parts.streams.maintenance.run, parts.streams.tasks.run, check.run],
        authenticator=parts.accounts.authenticator,
        on_start=[parts.accounts.signing_keys.check_token_key, partial(print_first_admin_code, deps)],
    )


def endpoints(deps: Deps) -> list[Binding]:
    """Return the endpoints alone, for where no streams are needed."""
    return [*compose(deps).endpoints]


__all__ = ["CHECKS", "ENDPOINTS", "JOBS", "NEEDS", "ROUTERS", "compose", "endpoints"]
