"""`/ws/chart-data`: the WebSocket."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from services.api.components import ApiComponents
from services.api.streams import client_request, cursor
from services.api.streams.channels import MAX_CHANNELS, check_interval
from services.api.streams.client import StreamClient
from services.api.streams.client_request import ClientRequest, Id
from services.api.streams.encoders import WEBSOCKET
from services.api.streams.encoding import ws_message
from services.core.errors import BadRequest, KursError, QuotaExceeded, UpgradeRequired
from services.core.exchange import RateLimit
from services.core.rate_limit import WeightedWindow
from services.web import NoQuery, StreamEndpoint, error_code

WELCOME_MESSAGE = "Kurs: subscribe with an action, a symbol and a timeframe"
CHANNEL_NAME_LIMIT = RateLimit(
    2_000, 10
)  # channels in the messages of one client; how many messages, the protocol bounds


WEBSOCKET_STREAM = StreamEndpoint(path="/ws/chart-data", query=NoQuery)  # docs/asyncapi.yaml describes it


class WebSocketEndpoint:
    """All clients of the WebSocket."""

    def __init__(self, parts: ApiComponents) -> None:
        self._broadcaster, self._channels, self._limiter = parts.broadcaster, parts.channels, parts.connections

    @WEBSOCKET_STREAM.handler
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client, from its coming to its going. Raises KursError before it is let in."""
        if scope["type"] != "websocket":
            raise UpgradeRequired(f"{scope['path']} is a WebSocket: open it as one, or read /v1/stream")
        await receive()
        self._limiter.check_origin(scope, dict(scope["headers"]))
        with self._limiter.admit(scope) as wire:
            await send({"type": "websocket.accept"})
            client = StreamClient(self._broadcaster, wire, WEBSOCKET)
            try:
                client.send(ws_message(type="welcome", message=WELCOME_MESSAGE, market=self._broadcaster.market))
                await self._receive_loop(client, receive)
            finally:
                client.close()

    async def _receive_loop(self, client: StreamClient, receive: Receive) -> None:
        names = WeightedWindow(CHANNEL_NAME_LIMIT)
        while (message := await receive())["type"] == "websocket.receive":
            await client.wait_drained()
            await self._handle(client, message, names)

    async def _handle(self, client: StreamClient, message: Any, names: WeightedWindow) -> None:
        """What a client asked for, or what is wrong with it: its connection stays."""
        text = message.get("text") or message.get("bytes") or b""
        try:
            await self._execute(client, client_request.parse(text), names)
        except KursError as error:
            _send(client, client_request.request_id(text), type="error", code=error_code(error), message=str(error))

    async def _execute(self, client: StreamClient, request: ClientRequest, names: WeightedWindow) -> None:
        if request.action == "ping":
            _send(client, request.id, type="pong")
            return
        if not names.try_spend(len(request.channel_names), asyncio.get_running_loop().time()):
            raise QuotaExceeded(
                f"more than {CHANNEL_NAME_LIMIT.max_count} channels are named "
                f"in {CHANNEL_NAME_LIMIT.seconds:.0f} s: wait"
            )
        channels, seconds = await self._channels.resolve_all(request.channel_names), check_interval(request.timer)
        if request.action == "unsubscribe":
            client.unsubscribe(channels)
            _confirm(client, "unsubscribed", request)
            return
        if len(client.subscriptions.keys() | set(channels)) > MAX_CHANNELS:
            raise BadRequest(f"a connection has at most {MAX_CHANNELS} subscriptions")
        after = cursor.parse(request.cursor, channels, self._broadcaster.market) if request.action == "resume" else {}
        _confirm(client, "subscribed" if request.action == "subscribe" else "resumed", request)
        await client.subscribe(channels, after, seconds or 0)
        await self._broadcaster.request_indicators(channels)


def _confirm(client: StreamClient, kind: str, request: ClientRequest) -> None:
    """One message for each symbol, as it was asked for, and one for all channels."""
    for symbol in request.all_symbols:
        more = {"indicators": request.indicators} if request.indicators else {}
        _send(client, request.id, type=kind, symbol=symbol, timeframe=request.timeframe, **more)
    if request.channels:
        _send(client, request.id, type=kind, channels=request.channels)


def _send(client: StreamClient, asked: Id, **words: object) -> None:
    client.send(ws_message(**words) if asked is None else ws_message(**words, id=asked))
