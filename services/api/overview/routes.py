"""What can be asked for and where it comes from: `/v1/directions` and `/v1/exchanges`."""

from collections.abc import Mapping

from fastapi import APIRouter, Response
from starlette.requests import HTTPConnection

from services.api.overview import schemas
from services.api.states import standing
from services.core import routes
from services.core.model import Choice, State
from services.ports import Deps
from services.settings import Settings
from services.web import Front, Headers, Kept, front_answer

router = APIRouter(prefix="/v1", tags=["rates"])
UNCHANGED = {"description": "The client has it already"}


DIRECTIONS_CACHED, EXCHANGES_CACHED = b"public, max-age=60", b"public, max-age=1"


@router.get(
    "/directions",
    operation_id="directions",
    summary="The directions, and how each exchange gives them",
    response_model=schemas.Directions,
    responses={304: UNCHANGED},
)
async def directions(connection: HTTPConnection) -> Response:
    """All directions with their routes, the preferred exchange first."""
    return await front_answer(connection)


@router.get(
    "/exchanges",
    operation_id="exchanges",
    summary="The exchanges' state, and which one is in use and why",
    response_model=schemas.Exchanges,
    responses={304: UNCHANGED},
)
async def exchanges(connection: HTTPConnection) -> Response:
    """State, last message, age per instrument, failovers, and why the one in use was chosen."""
    return await front_answer(connection)


def fronts(deps: Deps) -> Mapping[str, Front]:
    """The paths, answered without routing, conditionally and to HEAD as well."""
    fixed = Kept(_directions(deps.settings).model_dump_json().encode(), _headers(DIRECTIONS_CACHED))
    return {
        "/v1/directions": lambda _, asked: fixed.answer(asked),
        "/v1/exchanges": lambda _, asked: _told(deps).answer(asked),
    }


def _told(deps: Deps) -> Kept:
    return Kept(_exchanges(deps).model_dump_json().encode(), _headers(EXCHANGES_CACHED))


def _headers(cache_control: bytes) -> Headers:
    return [(b"content-type", b"application/json"), (b"cache-control", cache_control), (b"vary", b"Origin")]


def _directions(settings: Settings) -> schemas.Directions:
    table = routes.table(settings.exchanges, settings.directions, settings.assets)
    return schemas.Directions(
        directions=[
            schemas.Direction(
                direction=str(direction),
                base=direction.base,
                quote=direction.quote,
                asset=settings.assets.get(direction.base, direction.base),
                routes=[schemas.Route(exchange=name, legs=_legs(legs)) for name, legs in ways.items()],
            )
            for direction, ways in table.items()
        ]
    )


def _exchanges(deps: Deps) -> schemas.Exchanges:
    now, hub = deps.clock.now(), deps.hub
    known = [_state(standing(hub, name, now), now) for name in deps.settings.exchanges]
    return schemas.Exchanges(
        time=now, simulated=hub.market == b"simulated", in_use=_in_use(hub.choice), exchanges=known
    )


def _legs(legs: routes.Route) -> list[schemas.RouteLeg]:
    return [
        schemas.RouteLeg(exchange=hop.exchange, instrument=str(hop.instrument), inverted=hop.inverted) for hop in legs
    ]


def _state(state: State, now: int) -> schemas.ExchangeState:
    instruments = [
        schemas.InstrumentState(
            instrument=str(source.instrument),
            feed=source.feed,
            received=source.received,
            age_ms=_since(source.received, now),
            confirmed_age_ms=_since(source.confirmed, now),
        )
        for source in state.sources
    ]
    known = state.history
    return schemas.ExchangeState(
        exchange=state.exchange,
        connected=state.connected,
        transport=state.transport,
        host=state.host,
        reason=state.reason,
        since=state.since,
        received=state.received,
        age_ms=_since(state.received, now),
        reconnects=state.reconnects,
        instruments=instruments,
        history=schemas.Progress(expected=known.expected, missing=known.missing) if known else None,
        clock_offset_ms=state.clock_offset,
    )


def _since(time: int | None, now: int) -> int | None:
    return None if time is None else max(0, now - time)


def _in_use(choice: Choice | None) -> schemas.InUse:
    if choice is None:
        return schemas.InUse(exchange=None, since=None, reason="nothing was chosen yet", failovers=0, recent=[])
    recent = [
        schemas.Switch(time=s.time, previous=s.previous, exchange=s.exchange, reason=s.reason) for s in choice.recent
    ]
    return schemas.InUse(
        exchange=choice.exchange, since=choice.since, reason=choice.reason, failovers=choice.failovers, recent=recent
    )
