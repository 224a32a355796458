"""A socket of the simulator: what it sends goes through the faults and into the ledger."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fastapi import WebSocket, WebSocketDisconnect
from starlette.websockets import WebSocketState

from services.core.model import Instrument
from services.simulator.fault_injection import ENCODER, PayloadFields, make_malformed
from services.simulator.faults import Fault
from services.simulator.ledger import LedgerEntry

if TYPE_CHECKING:
    from services.simulator.simulation import Simulation

CONNECTION_IDS = count(1)
MAX_TURN_SECONDS = 0.005  # of the event loop, for one socket's frames


class OutgoingFrame(NamedTuple):
    """One message to a client; what it is about, for the ledger."""

    body: dict[str, Any]
    instrument: Instrument | None = None
    kind: str = ""  # empty: not for the ledger
    id: str = ""
    price: str | None = None


class PendingFrame(NamedTuple):
    """A frame on its way."""

    frame: OutgoingFrame
    text: str
    send_at: int  # when it may go; 0: now
    faults: list[Fault]


class ShutdownAnnouncer(Protocol):
    """Who can tell the client of a shutdown in the exchange's words."""

    async def announce_shutdown(self, now: int) -> None:
        """Tell it."""


class SimulatedSocket:
    """One open socket."""

    def __init__(self, simulation: "Simulation", websocket: WebSocket, payload_fields: PayloadFields) -> None:
        self.simulation, self.payload_fields = simulation, payload_fields
        self.exchange = payload_fields.exchange
        self.connection_id = next(CONNECTION_IDS)
        self.opened_at = simulation.now()
        self.session: ShutdownAnnouncer | None = None
        self.closes_at: int | None = None  # when a shutdown closes it
        self._websocket = websocket
        self._transport = transport()
        self._reordered: list[PendingFrame] = []
        self._delayed: deque[PendingFrame] = deque()
        self._sent_count = 0

    async def __aenter__(self) -> "SimulatedSocket":
        await self._websocket.accept()
        self.simulation.sockets.add(self)
        self.simulation.request_counts[f"{self.exchange} connect"] += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.simulation.sockets.discard(self)

    async def messages(self) -> AsyncIterator[str]:
        """What the client sends, until it leaves."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            yield message.get("text") or (message.get("bytes") or b"").decode(errors="replace")

    async def reply(self, body: Any) -> None:
        """Answer the client. Faults of data do not touch answers."""
        await self._send_text(ENCODER.encode(body).decode())

    async def send_frames(self, frames: Iterable[OutgoingFrame]) -> None:
        """Send what the market gives, as the active faults let it. `frames` are made as they go, others in between."""
        faults, now = self.simulation.faults, self.simulation.now()
        await self._release_held(now)
        turn = time.monotonic()
        for frame in frames:
            if time.monotonic() - turn > MAX_TURN_SECONDS:
                await asyncio.sleep(0)
                turn = time.monotonic()
            if faults.find(self.exchange, "mute", frame.instrument):
                continue
            body, hit = self.payload_fields.corrupt(frame.body, faults, frame.instrument)
            late = faults.find(self.exchange, "delay", frame.instrument)
            due = now + int(late.parameters["ms"]) if late else 0
            parcel = PendingFrame(frame, ENCODER.encode(body).decode(), due, [*hit, *filter(None, [late])])
            await self._send_or_hold(parcel)
        await self._release_held(now)

    async def close(self, code: int, reason: str = "") -> None:
        """Close with a code."""
        if not self.closed:
            with contextlib.suppress(WebSocketDisconnect):
                await self._websocket.close(code, reason)

    @property
    def closed(self) -> bool:
        """Whether one side ended it."""
        states = (self._websocket.application_state, self._websocket.client_state)
        return WebSocketState.DISCONNECTED in states

    async def shut_down(self, seconds: float) -> None:
        """Say that the exchange goes down, and close some time later."""
        now = self.simulation.now()
        self.closes_at = now + round(seconds * 1000)
        if self.session:
            await self.session.announce_shutdown(now)

    def abort(self) -> None:
        """End the connection as a broken cable would."""
        if self._transport:
            self._transport.abort()

    async def _send_or_hold(self, pending: PendingFrame) -> None:
        """Send at once, or hold back what is to come late or in another order."""
        reorder = self.simulation.faults.find(self.exchange, "reorder", pending.frame.instrument)
        if pending.send_at:
            self._delayed.append(pending)
        elif reorder:
            self._reordered.append(pending._replace(faults=[*pending.faults, reorder]))
        else:
            await self._send_frame(pending)

    async def _release_held(self, now: int) -> None:
        """Send what is no longer to be held back."""
        reorder = next(self.simulation.faults.at_exchange(self.exchange, "reorder"), None)
        if self._reordered and (not reorder or len(self._reordered) >= reorder.parameters["size"]):
            held, self._reordered = self._reordered[::-1], []
            for parcel in held:
                await self._send_frame(parcel)
        delayed = any(self.simulation.faults.at_exchange(self.exchange, "delay"))
        while self._delayed and (not delayed or self._delayed[0].send_at <= now):
            await self._send_frame(self._delayed.popleft())

    async def _send_frame(self, pending: PendingFrame) -> None:
        faults, frame = self.simulation.faults, pending.frame
        self._sent_count += 1
        text, hit = pending.text, list(pending.faults)
        spoilt = faults.find(self.exchange, "garbage", frame.instrument)
        if spoilt and self._sent_count % int(spoilt.parameters["every"]) == 0:
            text = make_malformed(text, self._sent_count)
            hit.append(spoilt)
        double = faults.find(self.exchange, "duplicate", frame.instrument)
        for _ in range(int(double.parameters["times"]) if double else 1):
            if await self._send_text(text):
                self._record(frame, [*hit, *filter(None, [double])])

    def _record(self, frame: OutgoingFrame, hit: list[Fault]) -> None:
        if frame.kind:
            entry = LedgerEntry(
                number=self.simulation.ledger.next_number,
                sent=self.simulation.now(),
                exchange=self.exchange,
                connection=self.connection_id,
                instrument=str(frame.instrument),
                kind=frame.kind,
                id=frame.id,
                price=frame.price,
                faults=tuple(fault.fault for fault in hit),
            )
            self.simulation.ledger.add(entry)

    async def _send_text(self, text: str) -> bool:
        """Whether there was still somebody to send it to."""
        if not self.closed:
            with contextlib.suppress(WebSocketDisconnect):  # the reader hears of it, too
                await self._websocket.send_text(text)
                return True
        return False


def transport() -> asyncio.Transport | None:
    """The transport of the connection that the running task serves.

    ASGI has no word for cutting a connection, so it is found where the server keeps it: in the object whose method the
    task runs.
    """
    task = asyncio.current_task()
    frame = getattr(task.get_coro(), "cr_frame", None) if task else None
    owner = frame.f_locals.get("self") if frame else None
    return getattr(owner, "transport", None)
