"""The streams' addresses: described here, answered before any routing."""

from collections.abc import Mapping

from fastapi import APIRouter, Response
from starlette.requests import HTTPConnection

from services.api.candles.routes import parameters
from services.api.candles.symbol_catalog import SymbolCatalog
from services.api.streams import schemas
from services.api.streams.admission import ConnectionLimiter
from services.api.streams.broadcaster import Broadcaster
from services.api.streams.channels import ChannelRegistry
from services.api.streams.sse import SseEndpoint
from services.api.streams.stream_history import StreamHistoryHandler
from services.api.streams.websocket import WebSocketEndpoint
from services.ports import Deps
from services.web import FastHandler, StreamApp, front_answer, stream_answer

router = APIRouter(prefix="/v1", tags=["streams"])
COSTS = {"/v1/stream/history": 5}


@router.get(
    "/stream",
    operation_id="stream",
    summary="Live events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": schemas.EVENTS}, "description": "Events without end"}},
    openapi_extra=parameters(schemas.StreamQuestion),
)
async def stream(connection: HTTPConnection) -> Response:
    """Server-sent events: how things stand first, then each change. `Last-Event-ID` resumes without a hole or a repeat;
    where that is not possible any more an event `reset` says so.
    """
    return stream_answer(connection)


@router.get(
    "/stream/history",
    operation_id="stream_history",
    summary="What was told after a cursor",
    response_model=schemas.History,
    openapi_extra=parameters(schemas.HistoryQuestion),
)
async def history(connection: HTTPConnection) -> Response:
    """The same events by request; the same cursor."""
    return await front_answer(connection)


def fronts(deps: Deps) -> Mapping[str, FastHandler]:
    """What is answered by request."""
    return {
        "/v1/stream/history": StreamHistoryHandler(
            deps.journal, ChannelRegistry(deps, SymbolCatalog(deps)), deps.hub.market
        )
    }


def streams(deps: Deps) -> Mapping[str, StreamApp]:
    """What goes on as long as its client stays."""
    fan, channels = Broadcaster(deps), ChannelRegistry(deps, SymbolCatalog(deps))
    doors = ConnectionLimiter(deps.settings, fan)
    return {"/ws/chart-data": WebSocketEndpoint(fan, channels, doors), "/v1/stream": SseEndpoint(fan, channels, doors)}
