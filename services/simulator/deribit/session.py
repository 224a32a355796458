"""One client of Deribit's WebSocket: its subscriptions, its heartbeat, its login and its credits."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from services.simulator.deribit import rpc
from services.simulator.deribit.methods import auth, test
from services.simulator.deribit.notification_channels import Channel, parse
from services.simulator.deribit.payloads import DIALECT
from services.simulator.deribit.rpc_params import Parameters, Refused, invalid, number
from services.simulator.fault_injection import decode
from services.simulator.limits import Credits
from services.simulator.simulated_socket import Frame, Line

LONGEST_CALL = 32 * 1024
MOST_CHANNELS = 500
SHORTEST_HEARTBEAT = 10  # seconds
EXHAUSTED: dict[str, Any] = {"code": 10028, "message": "too_many_requests"}


class RpcSession:
    """Speaks for Deribit on one socket."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._channels: dict[str, Channel] = {}
        self._new: list[Channel] = []
        self._logged_in = False
        self._heartbeat = 0  # ms; 0: none
        self._beat = 0  # when the last one was due
        self._unanswered = False
        now = line.simulation.now()
        self._credits = {
            "subscribe": Credits(3000, 30_000, now),
            "get_instruments": Credits(10_000, 500_000, now),
            "": Credits(500, 50_000, now),
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

    def frames(self, since: int, until: int) -> Iterator[Frame]:
        market, new = self._line.simulation.market, self._new
        self._new = []
        for channel in tuple(self._channels.values()):
            if channel in new and channel.state:
                yield from channel.state(channel, market, since, until)
            elif channel not in new:
                yield from channel.source(channel, market, since, until)

    async def look(self, now: int) -> None:
        """Send heartbeats; close on who does not answer."""
        if not self._heartbeat or now < self._beat + self._heartbeat:
            return
        if self._unanswered:
            await self._line.close(1000, "heartbeat")
            return
        self._beat, self._unanswered = now, True
        for kind in ("heartbeat", "test_request"):
            await self._line.reply({"params": {"type": kind}, "method": "heartbeat", "jsonrpc": "2.0"})

    async def announce_shutdown(self, now: int) -> None:
        """Tell who listens to the platform's state."""
        if "platform_state" in self._channels:
            params = {"channel": "platform_state", "data": {"maintenance": True}}
            await self._line.reply({"jsonrpc": "2.0", "method": "subscription", "params": params})

    async def hear(self, text: str) -> None:
        sim = self._line.simulation
        try:
            call = _call(text)
        except Refused as refused:
            await self._answer(rpc.envelope(sim, {}, sim.now(), error=refused.error))
            return
        if self._affords(str(call.get("method")), sim.now()):
            await self._answer(await rpc.reply(sim, call, self._methods))
        else:
            await self._answer(rpc.envelope(sim, call, sim.now(), error=EXHAUSTED))
            await self._line.close(1000, EXHAUSTED["message"])

    async def _answer(self, body: dict[str, Any]) -> None:
        await self._line.reply(DIALECT.distort(body, self._line.simulation.faults, None)[0])

    def _affords(self, method: str, now: int) -> bool:
        return self._credits.get(method.removeprefix("public/"), self._credits[""]).spend(now)

    def _subscribe(self, given: Parameters) -> Any:
        channels = [channel for name in _names(given) if (channel := parse(name))]
        if any(channel.raw for channel in channels) and not self._logged_in:
            raise Refused(13778, "raw_subscriptions_not_available_for_unauthorized")
        for channel in channels:
            if channel.name not in self._channels:
                self._channels[channel.name] = channel
                self._new.append(channel)
        return sorted({channel.name for channel in channels}, reverse=True)

    def _unsubscribe(self, given: Parameters) -> Any:
        return sorted((name for name in _names(given) if self._channels.pop(name, None)), reverse=True)

    def _unsubscribe_all(self, given: Parameters) -> Any:
        self._channels.clear()
        return "ok"

    def _set_heartbeat(self, given: Parameters) -> Any:
        interval = number(given, "interval")
        if interval < SHORTEST_HEARTBEAT:
            invalid("interval", "must be at least 10")
        self._heartbeat, self._beat = interval * 1000, self._line.simulation.now()
        self._unanswered = False
        return "ok"

    def _disable_heartbeat(self, given: Parameters) -> Any:
        self._heartbeat = 0
        return "ok"

    def _test(self, given: Parameters) -> Any:
        self._unanswered = False
        return test(self._line.simulation, given)

    def _auth(self, given: Parameters) -> Any:
        answer = auth(self._line.simulation, given)
        self._logged_in = True
        return answer


def _names(given: Parameters) -> list[str]:
    names = given.get("channels")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        invalid("channels", "must be a list of strings")
    if len(names) > MOST_CHANNELS:
        invalid("channels", "too many channels")
    return names


def _call(text: str) -> rpc.Call:
    if len(text) > LONGEST_CALL:
        raise Refused(-32600, "request entity too large")
    try:
        call = decode(text)
    except msgspec.DecodeError:
        raise Refused(-32700, "Parse error") from None
    if not isinstance(call, dict):
        raise Refused(11050, "bad_request")
    return call
