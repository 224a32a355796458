"""One client of Deribit's WebSocket: its subscriptions, its heartbeat, its login and its credits."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from services.simulator.deribit import rpc
from services.simulator.deribit.methods import auth, test
from services.simulator.deribit.notification_channels import NotificationChannel, parse
from services.simulator.deribit.payloads import PAYLOAD_FIELDS
from services.simulator.deribit.rpc_params import Parameters, RpcError, integer, reject
from services.simulator.fault_injection import decode
from services.simulator.limits import CreditPool
from services.simulator.simulated_socket import OutgoingFrame, SimulatedSocket

MAX_CALL_CHARACTERS = 32 * 1024
MAX_CHANNELS = 500
MIN_HEARTBEAT_SECONDS = 10
TOO_MANY_REQUESTS: dict[str, Any] = {"code": 10028, "message": "too_many_requests"}


class DeribitSession:
    """Session of one Deribit client."""

    def __init__(self, socket: SimulatedSocket) -> None:
        self._socket = socket
        self._channels: dict[str, NotificationChannel] = {}
        self._new_channels: list[NotificationChannel] = []
        self._logged_in = False
        self._heartbeat_ms = 0  # ms; 0: none
        self._last_heartbeat = 0  # when the last one was due
        self._heartbeat_unanswered = False
        now = socket.simulation.now()
        self._credits = {
            "subscribe": CreditPool(3000, 30_000, now),
            "get_instruments": CreditPool(10_000, 500_000, now),
            "": CreditPool(500, 50_000, now),
        }
        self._methods: dict[str, Callable[[Parameters], Any]] = {
            "public/subscribe": self._subscribe,
            "private/subscribe": self._subscribe,
            "public/unsubscribe": self._unsubscribe,
            "private/unsubscribe": self._unsubscribe,
            "public/unsubscribe_all": self._unsubscribe_all,
            "public/set_heartbeat": self._set_heartbeat,
            "public/disable_heartbeat": self._disable_heartbeat,
            "public/test": self._test,
            "public/auth": self._auth,
        }

    def frames(self, since: int, until: int) -> Iterator[OutgoingFrame]:
        market, new = self._socket.simulation.market, self._new_channels
        self._new_channels = []
        for channel in tuple(self._channels.values()):
            if channel in new and channel.initial:
                yield from channel.initial(channel, market, since, until)
            elif channel not in new:
                yield from channel.source(channel, market, since, until)

    async def on_tick(self, now: int) -> None:
        """Send heartbeats. Close a connection whose client does not respond to them."""
        if not self._heartbeat_ms or now < self._last_heartbeat + self._heartbeat_ms:
            return
        if self._heartbeat_unanswered:
            await self._socket.close(1000, "heartbeat")
            return
        self._last_heartbeat, self._heartbeat_unanswered = now, True
        for kind in ("heartbeat", "test_request"):
            await self._socket.reply({"params": {"type": kind}, "method": "heartbeat", "jsonrpc": "2.0"})

    async def announce_shutdown(self, now: int) -> None:
        """Notify subscribers of `platform_state`."""
        if "platform_state" in self._channels:
            params = {"channel": "platform_state", "data": {"maintenance": True}}
            await self._socket.reply({"jsonrpc": "2.0", "method": "subscription", "params": params})

    async def on_message(self, text: str) -> None:
        sim = self._socket.simulation
        try:
            call = _parse_call(text)
        except RpcError as refused:
            await self._send(rpc.envelope(sim, {}, sim.now(), error=refused.error))
            return
        if self._spend_credits(str(call.get("method")), sim.now()):
            await self._send(await rpc.reply(sim, call, self._methods))
        else:
            await self._send(rpc.envelope(sim, call, sim.now(), error=TOO_MANY_REQUESTS))
            await self._socket.close(1000, TOO_MANY_REQUESTS["message"])

    async def _send(self, body: dict[str, Any]) -> None:
        await self._socket.reply(PAYLOAD_FIELDS.corrupt(body, self._socket.simulation.faults, None)[0])

    def _spend_credits(self, method: str, now: int) -> bool:
        return self._credits.get(method.removeprefix("public/"), self._credits[""]).spend(now)

    def _subscribe(self, params: Parameters) -> Any:
        channels = [channel for name in _channel_names(params) if (channel := parse(name))]
        if any(channel.raw for channel in channels) and not self._logged_in:
            raise RpcError(13778, "raw_subscriptions_not_available_for_unauthorized")
        for channel in channels:
            if channel.name not in self._channels:
                self._channels[channel.name] = channel
                self._new_channels.append(channel)
        return sorted({channel.name for channel in channels}, reverse=True)

    def _unsubscribe(self, params: Parameters) -> Any:
        return sorted((name for name in _channel_names(params) if self._channels.pop(name, None)), reverse=True)

    def _unsubscribe_all(self, params: Parameters) -> Any:
        self._channels.clear()
        return "ok"

    def _set_heartbeat(self, params: Parameters) -> Any:
        interval = integer(params, "interval")
        if interval < MIN_HEARTBEAT_SECONDS:
            reject("interval", "must be at least 10")
        self._heartbeat_ms, self._last_heartbeat = interval * 1000, self._socket.simulation.now()
        self._heartbeat_unanswered = False
        return "ok"

    def _disable_heartbeat(self, params: Parameters) -> Any:
        self._heartbeat_ms = 0
        return "ok"

    def _test(self, params: Parameters) -> Any:
        self._heartbeat_unanswered = False
        return test(self._socket.simulation, params)

    def _auth(self, params: Parameters) -> Any:
        answer = auth(self._socket.simulation, params)
        self._logged_in = True
        return answer


def _channel_names(params: Parameters) -> list[str]:
    names = params.get("channels")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        reject("channels", "must be a list of strings")
    if len(names) > MAX_CHANNELS:
        reject("channels", "too many channels")
    return names


def _parse_call(text: str) -> rpc.Call:
    if len(text) > MAX_CALL_CHARACTERS:
        raise RpcError(-32600, "request entity too large")
    try:
        call = decode(text)
    except msgspec.DecodeError:
        raise RpcError(-32700, "Parse error") from None
    if not isinstance(call, dict):
        raise RpcError(11050, "bad_request")
    return call
