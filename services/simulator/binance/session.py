"""One client of Binance's streams: its subscriptions and control messages."""

import re
from collections import deque
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from services.simulator.binance.streams import MarketStream, parse
from services.simulator.fault_injection import decode
from services.simulator.market.listings import DAY
from services.simulator.simulated_socket import OutgoingFrame, SimulatedSocket

MAX_STREAMS, MAX_MESSAGES_PER_SECOND = 1024, 5  # per connection; per second
MICROSECOND_KEYS = ("E", "T", "t", "O", "C")
METHOD_NAMES = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
BAD_ID = "Invalid request: request ID must be an unsigned integer"  # Binance's text names less than it accepts
TEXT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")  # a UUID is one


class ControlError(Exception):
    """Raised for a control message that is rejected."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class BinanceSession:
    """Session of one Binance client."""

    def __init__(self, socket: SimulatedSocket, names: list[str], combined: bool, microseconds: bool) -> None:
        self._socket, self._combined, self._microseconds = socket, combined, microseconds
        self._streams = {name: stream for name in names if (stream := parse(name))}
        self._message_times: deque[int] = deque(maxlen=MAX_MESSAGES_PER_SECOND)

    def frames(self, since: int, until: int) -> Iterator[OutgoingFrame]:
        for stream in tuple(self._streams.values()):
            for frame in stream.frames(self._socket.simulation.market, since, until):
                yield self._wrap(stream.name, frame)

    async def on_tick(self, now: int) -> None:
        """Close a connection that is a day old."""
        if now - self._socket.opened_at >= DAY:
            await self._socket.close(1001)

    async def announce_shutdown(self, now: int) -> None:
        """Send `serverShutdown`."""
        await self._socket.reply(self._wrap("!serverShutdown", OutgoingFrame({"e": "serverShutdown", "E": now})).body)

    async def on_message(self, text: str) -> None:
        now = self._socket.simulation.now()
        if len(self._message_times) == MAX_MESSAGES_PER_SECOND and now - self._message_times[0] < 1000:
            await self._socket.close(1008, "Too many requests")
            return
        self._message_times.append(now)
        await self._socket.reply(self._response(text))

    def _wrap(self, name: str, frame: OutgoingFrame) -> OutgoingFrame:
        body = _in_microseconds(frame.body) if self._microseconds else frame.body
        return frame._replace(body={"stream": name, "data": body}) if self._combined else frame._replace(body=body)

    def _response(self, text: str) -> dict[str, Any]:
        try:
            command = decode(text)
        except msgspec.DecodeError as error:
            return {"error": {"code": 3, "msg": f"Invalid JSON: {error}"}}
        request_id = command.get("id") if isinstance(command, dict) else None
        identifier = request_id if _is_id(request_id) else None
        try:
            return {"result": self._run_command(command), "id": identifier}
        except ControlError as wrong:
            return {"error": {"code": wrong.code, "msg": wrong.text}, "id": identifier}

    def _run_command(self, command: Any) -> Any:
        if not isinstance(command, dict):
            raise ControlError(2, "Invalid request: request must be an object")
        if "method" not in command:
            raise ControlError(2, "Invalid request: missing field `method`")
        if "id" in command and not _is_id(command["id"]):
            raise ControlError(2, BAD_ID)
        match command["method"]:
            case "SUBSCRIBE":
                return self._subscribe(_streams(command))
            case "UNSUBSCRIBE":
                for stream in _streams(command):
                    self._streams.pop(stream.name, None)
                return None
            case "LIST_SUBSCRIPTIONS":
                if command.get("params"):
                    raise ControlError(2, "Invalid request: too many parameters")
                return list(self._streams)
            case "GET_PROPERTY" | "SET_PROPERTY" as method:
                return self._property(method, command.get("params"))
        raise ControlError(2, f"Invalid request: unknown variant `{command['method']}`, expected one of {METHOD_NAMES}")

    def _subscribe(self, streams: list[MarketStream]) -> None:
        wanted = self._streams | {stream.name: stream for stream in streams}
        if len(wanted) > MAX_STREAMS:
            raise ControlError(4, "Too many subscriptions")
        self._streams = wanted

    def _property(self, method: str, params: Any) -> Any:
        if not isinstance(params, list) or not params or not isinstance(params[0], str):
            raise ControlError(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            raise ControlError(0, "Unknown property")
        if method == "GET_PROPERTY":
            return self._combined
        if len(params) != 2 or not isinstance(params[1], bool):
            raise ControlError(1, "Invalid value type: expected Boolean")
        self._combined = params[1]
        return None


def _is_id(value: Any) -> bool:
    """Return whether a value is valid as a request's id: null, a signed 64-bit integer or a short text."""
    if isinstance(value, str):
        return TEXT_ID.fullmatch(value) is not None
    return value is None or (type(value) is int and -(2**63) <= value < 2**63)


def _streams(command: dict[str, Any]) -> list[MarketStream]:
    names = command.get("params")
    if not isinstance(names, list):
        raise ControlError(2, "Invalid request: streams must be an array")
    streams = [parse(name) if isinstance(name, str) else None for name in names]
    return [stream or _invalid() for stream in streams]


def _invalid() -> NoReturn:
    raise ControlError(2, "Invalid request: invalid stream")


def _in_microseconds(body: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _in_microseconds(value)
        if isinstance(value, dict)
        else value * 1000 + (999 if key == "T" and "x" in body else 0)
        if key in MICROSECOND_KEYS and not ("m" in body and key == "t")
        else value
        for key, value in body.items()
    }
