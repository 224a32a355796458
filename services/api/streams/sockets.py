"""`/ws/chart-data`: the WebSocket."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from services.api.streams import cursor, requests
from services.api.streams.channels import MOST, Channels, interval
from services.api.streams.client import Client
from services.api.streams.doors import Doors
from services.api.streams.fan import Fan
from services.api.streams.frames import said
from services.api.streams.requests import Id, Request
from services.api.streams.words import FLOOD, FRAMES
from services.core.errors import BadRequest, KursError
from services.core.exchange import Limit
from services.core.window import Window
from services.web import code, problem

WELCOME = "Kurs: subscribe with an action, a symbol and a timeframe"
RATE = Limit(100, 10)  # messages of one client


class Sockets:
    """All clients of the WebSocket."""

    def __init__(self, fan: Fan, channels: Channels, doors: Doors) -> None:
        self._fan, self._channels, self._doors = fan, channels, doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client, from its coming to its going."""
        await receive()
        try:
            self._doors.known_page(scope, dict(scope["headers"]))
            with self._doors.entered(scope) as wire:
                await send({"type": "websocket.accept"})
                client = Client(self._fan, wire, FRAMES)
                try:
                    client.say(said(type="welcome", message=WELCOME, market=self._fan.market))
                    await self._converse(client, receive, send)
                finally:
                    client.leave()
        except KursError as error:
            status, headers, body = problem(error, scope["path"], "")
            await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": body})

    async def _converse(self, client: Client, receive: Receive, send: Send) -> None:
        messages = Window(RATE)
        while (message := await receive())["type"] == "websocket.receive":
            if messages.full(asyncio.get_running_loop().time()):
                reason = f"more than {RATE.most} messages in {RATE.seconds:.0f} s"
                await send({"type": "websocket.close", "code": FLOOD, "reason": reason})
                return
            await client.reads()
            await self._answer(client, message)

    async def _answer(self, client: Client, message: Any) -> None:
        """What a client asked for, or what is wrong with it: its connection stays."""
        asked: Id = None
        try:
            request = requests.understood(message.get("text") or message.get("bytes") or b"")
            asked = request.id
            await self._done(client, request)
        except KursError as error:
            _say(client, asked, type="error", code=code(error), message=str(error))

    async def _done(self, client: Client, request: Request) -> None:
        if request.action == "ping":
            _say(client, request.id, type="pong")
            return
        channels, seconds = await self._channels.all(request.names), interval(request.timer)
        if request.action == "unsubscribe":
            client.unfollow(channels)
            _confirm(client, "unsubscribed", request)
            return
        if len(client.slots.keys() | set(channels)) > MOST:
            raise BadRequest(f"a connection has at most {MOST} subscriptions")
        after = cursor.parsed(request.place, channels) if request.action == "resume" else {}
        _confirm(client, "subscribed" if request.action == "subscribe" else "resumed", request)
        await client.follow(channels, after, seconds or 0)
        if any(channel.indicator for channel in channels):
            await self._fan.wish()


def _confirm(client: Client, kind: str, request: Request) -> None:
    """One message for each symbol, as it was asked for, and one for all channels."""
    for symbol in request.pairs:
        more = {"indicators": request.indicators} if request.indicators else {}
        _say(client, request.id, type=kind, symbol=symbol, timeframe=request.timeframe, **more)
    if request.channels:
        _say(client, request.id, type=kind, channels=request.channels)


def _say(client: Client, asked: Id, **words: object) -> None:
    client.say(said(**words) if asked is None else said(**words, id=asked))
