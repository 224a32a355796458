"""`/ws/chart-data`: the WebSocket."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from services.api.components import ApiComponents
from services.api.streams import client_request, cursor
from services.api.streams.channel_access import check_access
from services.api.streams.channels import MAX_CHANNELS, check_interval
from services.api.streams.client import StreamClient
from services.api.streams.client_request import ClientRequest, Id
from services.api.streams.encoders import WEBSOCKET, ws_message
from services.api.streams.schemas import SocketQuery
from services.core.errors import BadRequest, KursError, QuotaExceeded, UpgradeRequired
from services.core.exchange import RateLimit
from services.core.rate_limit import WeightedWindow
from services.web import StreamEndpoint, error_code, parse_query
from services.web.quota_policies import STREAMS

WELCOME_MESSAGE = "Kurs: subscribe with an action, a symbol and a timeframe"
CHANNEL_NAME_LIMIT = RateLimit(2_000, 10)  # names in a client's messages; web/ limits the messages themselves


# docs/asyncapi.yaml describes it
WEBSOCKET_STREAM = StreamEndpoint(path="/ws/chart-data", query=SocketQuery, limit=STREAMS)


class WebSocketEndpoint:
    """All clients of the WebSocket."""

    def __init__(self, parts: ApiComponents) -> None:
        self._streams, self._market = parts.streams, parts.deps.hub.market
        self._tickets = parts.accounts.tickets

    @WEBSOCKET_STREAM.handler
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client until its connection ends. Raises KursError before it is accepted."""
        if scope["type"] != "websocket":
            raise UpgradeRequired(f"{scope['path']} is a WebSocket: open it as one, or read /v1/stream")
        await receive()
        self._streams.connections.check_origin(scope, dict(scope["headers"]))
        ticket = parse_query(SocketQuery, scope["query_string"]).ticket
        caller = await self._tickets.caller(ticket, scope)
        with self._streams.connections.admit(scope) as writer:
            await send({"type": "websocket.accept"})
            with self._streams.broadcaster.connect(writer, WEBSOCKET, caller) as client:
                client.send(ws_message(type="welcome", message=WELCOME_MESSAGE, market=self._market))
                await self._receive_loop(client, receive)

    async def _receive_loop(self, client: StreamClient, receive: Receive) -> None:
        names = WeightedWindow(CHANNEL_NAME_LIMIT)
        while (message := await receive())["type"] == "websocket.receive":
            await client.wait_drained()
            await self._handle(client, message, names)

    async def _handle(self, client: StreamClient, message: Any, names: WeightedWindow) -> None:
        """Execute a request, or send what is wrong with it. The connection stays open."""
        text = message.get("text") or message.get("bytes") or b""
        try:
            await self._execute(client, client_request.parse(text), names)
        except KursError as error:
            _respond(client, client_request.request_id(text), type="error", code=error_code(error), message=str(error))

    async def _execute(self, client: StreamClient, request: ClientRequest, names: WeightedWindow) -> None:
        if request.action == "ping":
            _respond(client, request.id, type="pong")
            return
        if not names.try_spend(len(request.channel_names), asyncio.get_running_loop().time()):
            limit = CHANNEL_NAME_LIMIT
            raise QuotaExceeded(f"more than {limit.max_count} channels are named in {limit.seconds:.0f} s: wait")
        channels, seconds = (
            await self._streams.resolver.resolve_all(request.channel_names),
            check_interval(request.timer),
        )
        check_access(channels, client.caller)
        names_of_all = {channel.name for channel in channels}
        if request.action == "unsubscribe":
            client.unsubscribe(names_of_all)
            _confirm(client, "unsubscribed", request)
            return
        if len(client.channel_names | names_of_all) > MAX_CHANNELS:
            raise BadRequest(f"a connection has at most {MAX_CHANNELS} subscriptions")
        positions = cursor.parse(request.cursor, channels, self._market) if request.action == "resume" else {}
        _confirm(client, "subscribed" if request.action == "subscribe" else "resumed", request)
        await client.subscribe(channels, positions, seconds or 0)
        await self._streams.demand.request(channels)


def _confirm(client: StreamClient, kind: str, request: ClientRequest) -> None:
    """Send a message for each symbol, as the client wrote it, and one for all channels."""
    for symbol in request.all_symbols:
        indicators = {"indicators": request.indicators} if request.indicators else {}
        _respond(client, request.id, type=kind, symbol=symbol, timeframe=request.timeframe, **indicators)
    if request.channels:
        _respond(client, request.id, type=kind, channels=request.channels)


def _respond(client: StreamClient, request_id: Id, **fields: object) -> None:
    client.send(ws_message(**fields) if request_id is None else ws_message(**fields, id=request_id))
