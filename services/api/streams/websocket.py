"""`/ws/chart-data`: the WebSocket."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from services.api.streams import client_request, cursor
from services.api.streams.admission import Doors
from services.api.streams.broadcaster import Fan
from services.api.streams.channels import MOST, Channels, interval
from services.api.streams.client import Client
from services.api.streams.client_request import Id, Request
from services.api.streams.encoders import FRAMES
from services.api.streams.encoding import said
from services.core.errors import BadRequest, KursError, QuotaExceeded, UpgradeRequired
from services.core.exchange import Limit
from services.core.rate_limit import Budget
from services.web import code

WELCOME = "Kurs: subscribe with an action, a symbol and a timeframe"
NAMES = Limit(2_000, 10)  # channels in the messages of one client; how many messages, the protocol bounds


class Sockets:
    """All clients of the WebSocket."""

    def __init__(self, fan: Fan, channels: Channels, doors: Doors) -> None:
        self._fan, self._channels, self._doors = fan, channels, doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client, from its coming to its going. Raises KursError before it is let in."""
        if scope["type"] != "websocket":
            raise UpgradeRequired(f"{scope['path']} is a WebSocket: open it as one, or read /v1/stream")
        await receive()
        self._doors.known_page(scope, dict(scope["headers"]))
        with self._doors.entered(scope) as wire:
            await send({"type": "websocket.accept"})
            client = Client(self._fan, wire, FRAMES)
            try:
                client.say(said(type="welcome", message=WELCOME, market=self._fan.market))
                await self._converse(client, receive)
            finally:
                client.leave()

    async def _converse(self, client: Client, receive: Receive) -> None:
        names = Budget(NAMES)
        while (message := await receive())["type"] == "websocket.receive":
            await client.reads()
            await self._answer(client, message, names)

    async def _answer(self, client: Client, message: Any, names: Budget) -> None:
        """What a client asked for, or what is wrong with it: its connection stays."""
        text = message.get("text") or message.get("bytes") or b""
        try:
            await self._done(client, client_request.understood(text), names)
        except KursError as error:
            _say(client, client_request.request_id(text), type="error", code=code(error), message=str(error))

    async def _done(self, client: Client, request: Request, names: Budget) -> None:
        if request.action == "ping":
            _say(client, request.id, type="pong")
            return
        if not names.spend(len(request.names), asyncio.get_running_loop().time()):
            raise QuotaExceeded(f"more than {NAMES.most} channels are named in {NAMES.seconds:.0f} s: wait")
        channels, seconds = await self._channels.all(request.names), interval(request.timer)
        if request.action == "unsubscribe":
            client.unfollow(channels)
            _confirm(client, "unsubscribed", request)
            return
        if len(client.slots.keys() | set(channels)) > MOST:
            raise BadRequest(f"a connection has at most {MOST} subscriptions")
        after = cursor.parsed(request.place, channels, self._fan.market) if request.action == "resume" else {}
        _confirm(client, "subscribed" if request.action == "subscribe" else "resumed", request)
        await client.follow(channels, after, seconds or 0)
        await self._fan.wish(channels)


def _confirm(client: Client, kind: str, request: Request) -> None:
    """One message for each symbol, as it was asked for, and one for all channels."""
    for symbol in request.pairs:
        more = {"indicators": request.indicators} if request.indicators else {}
        _say(client, request.id, type=kind, symbol=symbol, timeframe=request.timeframe, **more)
    if request.channels:
        _say(client, request.id, type=kind, channels=request.channels)


def _say(client: Client, asked: Id, **words: object) -> None:
    client.say(said(**words) if asked is None else said(**words, id=asked))
