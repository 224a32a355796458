"""`/v1/directions` and `/v1/exchanges`: the directions with their conversion routes, and where rates come from."""

from collections.abc import Set

from services.api.components import ApiComponents
from services.api.current_selection import select_current
from services.api.exchange_status import current_status
from services.api.overview import schemas
from services.core.conversion import ConversionRoute
from services.core.errors import NothingFresh
from services.core.markets import SIMULATED
from services.core.model import ActiveExchange, ExchangeStatus, FeedStatus, Instrument
from services.core.selection import ExchangeOrder, update_active
from services.exchanges import REFERENCES, route_table
from services.hub import PRICER, Hub
from services.ports import Clock
from services.settings import Settings
from services.web import Content, Endpoint, NoQuery, UntilHubChanges, public
from services.web.quota_policies import COURSES

DIRECTION_LIST = Endpoint(
    path="/v1/directions",
    limit=COURSES,
    query=NoQuery,
    response=schemas.Directions,
    cache=UntilHubChanges(max_entries=1),
    compress=False,
    tag="rates",
    operation_id="directions",
    summary="The directions, and how each exchange gives them",
    description="All directions with their routes, the preferred exchange first.",
)
EXCHANGE_LIST = Endpoint(
    path="/v1/exchanges",
    limit=COURSES,
    query=NoQuery,
    response=schemas.Exchanges,
    cache=UntilHubChanges(max_entries=1),
    compress=False,
    tag="rates",
    operation_id="exchanges",
    summary="The exchanges' state, and which one is in use and why",
    description="State, last message, age per instrument, failovers; the exchange that this replica uses, and the one "
    "that the pricer chose.",
)


class OverviewHandlers:
    """The directions and the exchanges."""

    def __init__(self, parts: ApiComponents) -> None:
        self._hub, self._clock, self._settings = parts.deps.hub, parts.deps.clock, parts.deps.settings

    @DIRECTION_LIST.handler
    def directions(self, _query: NoQuery) -> Content:
        """Return all directions with their conversion routes."""
        return Content(_directions(self._hub, self._settings).model_dump_json().encode(), public(10))

    @EXCHANGE_LIST.handler
    def exchanges(self, _query: NoQuery) -> Content:
        """Return the status of all exchanges."""
        return Content(_exchanges(self._hub, self._clock, self._settings).model_dump_json().encode(), public(1))


def _directions(hub: Hub, settings: Settings) -> schemas.Directions:
    absent = {
        (state.exchange, source.instrument)
        for state in hub.exchange_statuses.values()
        for source in state.feeds
        if source.status is FeedStatus.ABSENT
    }
    return schemas.Directions(
        directions=[
            schemas.Direction(
                direction=str(direction),
                base=direction.base,
                quote=direction.quote,
                asset=settings.assets.get(direction.base, direction.base),
                routes=[_route(name, legs, absent) for name, legs in routes.items()],
            )
            for direction, routes in route_table(settings).items()
        ]
    )


def _route(exchange: str, legs: ConversionRoute, absent: Set[tuple[str, Instrument]]) -> schemas.Route:
    untraded = [str(hop.instrument) for hop in legs if (hop.exchange, hop.instrument) in absent]
    return schemas.Route(exchange=exchange, legs=_legs(legs), not_traded=untraded)


def _exchanges(hub: Hub, clock: Clock, settings: Settings) -> schemas.Exchanges:
    now = clock.monotonic()
    wall_offset = clock.now() - now  # what makes wall times of monotonic ones
    states = [
        _state(current_status(hub, name, now), now, wall_offset, name in hub.exchange_statuses)
        for name in settings.exchanges
    ]
    return schemas.Exchanges(
        time=now + wall_offset,
        simulated=hub.market == SIMULATED,
        in_use=_in_use(hub, settings, now, wall_offset),
        exchanges=states,
        dead_letters=hub.dead_letters,
    )


def _legs(legs: ConversionRoute) -> list[schemas.RouteLeg]:
    return [
        schemas.RouteLeg(exchange=hop.exchange, instrument=str(hop.instrument), inverted=hop.inverted) for hop in legs
    ]


def _state(state: ExchangeStatus, now: int, wall_offset: int, is_received: bool) -> schemas.ExchangeState:
    instruments = [
        schemas.InstrumentState(
            instrument=str(source.instrument),
            feed=source.status,
            received=_to_wall_time(source.received, wall_offset),
            age_ms=_age_ms(source.received, now),
            confirmed_age_ms=_age_ms(source.confirmed, now),
        )
        for source in state.feeds
    ]
    backfill = state.backfill
    return schemas.ExchangeState(
        exchange=state.exchange,
        connected=state.connected,
        transport=state.transport,
        host=state.host,
        reason=state.reason,
        since=state.since + wall_offset,
        received=_to_wall_time(state.received, wall_offset),
        age_ms=_age_ms(state.received, now),
        heard_age_ms=_age_ms(state.time, now) if is_received else None,
        reconnects=state.reconnects,
        instruments=instruments,
        history=schemas.Progress(expected=backfill.expected, missing=backfill.missing) if backfill else None,
        clock_offset_ms=state.clock_offset,
    )


def _to_wall_time(time: int | None, wall_offset: int) -> int | None:
    return None if time is None else time + wall_offset


def _age_ms(time: int | None, now: int) -> int | None:
    return None if time is None else max(0, now - time)


def _in_use(hub: Hub, settings: Settings, now: int, wall_offset: int) -> schemas.InUse:
    """Return the exchange that this replica uses, which may differ from the pricer's last report."""
    reported = hub.active_exchange
    try:
        exchange = select_current(hub, settings.directions, settings.exchanges, now, partial=True).exchange
    except NothingFresh as nothing:
        exchange, reason = None, str(nothing)
    else:
        order = ExchangeOrder(settings.exchanges, REFERENCES)
        reason = update_active(None, hub.rates, settings.directions, order, now).reason
    recent = [
        schemas.Switch(time=s.time + wall_offset, previous=s.previous, exchange=s.exchange, reason=s.reason)
        for s in (reported.switches if reported else ())
    ]
    agreed = reported if reported and reported.exchange == exchange and exchange else None
    return schemas.InUse(
        exchange=exchange,
        since=agreed and agreed.since + wall_offset,
        reason=agreed.reason if agreed else reason,
        failovers=reported.failovers if reported else 0,
        recent=recent,
        pricer=_reported_exchange(reported, now, wall_offset, hub.clock_fault(PRICER)),
    )


def _reported_exchange(reported: ActiveExchange | None, now: int, wall_offset: int, fault: str) -> schemas.PricerChoice:
    reason = "; ".join(filter(None, [reported.reason if reported else "the pricer has not reported", fault]))
    if reported is None:
        return schemas.PricerChoice(exchange=None, since=None, reason=reason, age_ms=None)
    return schemas.PricerChoice(
        exchange=reported.exchange,
        since=reported.since + wall_offset,
        reason=reason,
        age_ms=_age_ms(reported.time, now),
    )
