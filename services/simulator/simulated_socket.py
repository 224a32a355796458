"""WebSocket connection of a simulator's client: its frames pass the active faults and are recorded in the ledger."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fastapi import WebSocket, WebSocketDisconnect
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketState

from services.core.model import Instrument
from services.simulator.fault_injection import ENCODER, PayloadFields, make_malformed
from services.simulator.faults import Fault
from services.simulator.ledger import LedgerEntry
from services.web.direct_writer import TRANSPORT_EXTENSION

if TYPE_CHECKING:
    from services.simulator.simulation import Simulation

CONNECTION_IDS = count(1)
MAX_TURN_SECONDS = 0.005  # for which one socket's frames hold the event loop


class OutgoingFrame(NamedTuple):
    """A message to a client, with what the ledger records of it."""

    body: dict[str, Any]
    instrument: Instrument | None = None
    kind: str = ""  # empty: the ledger does not record it
    id: str = ""
    price: str | None = None


class PendingFrame(NamedTuple):
    """A frame that is to be sent."""

    frame: OutgoingFrame
    text: str
    send_at: int  # ms; 0: at once
    faults: list[Fault]


class ShutdownAnnouncer(Protocol):
    """A session that can announce a shutdown as the exchange does."""

    async def announce_shutdown(self, now: int) -> None:
        """Send the exchange's message about a shutdown, if it has one."""


class SimulatedSocket:
    """One open connection."""

    def __init__(self, simulation: "Simulation", websocket: WebSocket, payload_fields: PayloadFields) -> None:
        self.simulation, self.payload_fields = simulation, payload_fields
        self.exchange = payload_fields.exchange
        self.connection_id = next(CONNECTION_IDS)
        self.opened_at = simulation.now()
        self.session: ShutdownAnnouncer | None = None
        self.closes_at: int | None = None  # set by a shutdown
        self._websocket = websocket
        self._transport = transport_of(websocket)
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
        """Yield what the client sends, until it disconnects."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            yield message.get("text") or (message.get("bytes") or b"").decode(errors="replace")

    async def reply(self, body: Any) -> None:
        """Send a response to the client. Faults of data do not apply to responses."""
        await self._send_text(ENCODER.encode(body).decode())

    async def send_frames(self, frames: Iterable[OutgoingFrame]) -> None:
        """Send frames as the active faults let them pass. Other tasks run in between, because frames are made here."""
        faults, now = self.simulation.faults, self.simulation.now()
        await self._release_held(now)
        turn_began = time.monotonic()
        for frame in frames:
            if time.monotonic() - turn_began > MAX_TURN_SECONDS:
                await asyncio.sleep(0)
                turn_began = time.monotonic()
            if faults.find(self.exchange, "mute", frame.instrument):
                continue
            body, applied = self.payload_fields.corrupt(frame.body, faults, frame.instrument)
            delay = faults.find(self.exchange, "delay", frame.instrument)
            send_at = now + int(delay.parameters["ms"]) if delay else 0
            pending = PendingFrame(frame, ENCODER.encode(body).decode(), send_at, [*applied, *filter(None, [delay])])
            await self._send_or_hold(pending)
        await self._release_held(now)

    async def close(self, code: int, reason: str = "") -> None:
        """Close with a closing code."""
        if not self.closed:
            with contextlib.suppress(WebSocketDisconnect):
                await self._websocket.close(code, reason)

    @property
    def closed(self) -> bool:
        """Whether either side has closed it."""
        states = (self._websocket.application_state, self._websocket.client_state)
        return WebSocketState.DISCONNECTED in states

    async def shut_down(self, seconds: float) -> None:
        """Announce a shutdown, and close so many seconds later."""
        now = self.simulation.now()
        self.closes_at = now + round(seconds * 1000)
        if self.session:
            await self.session.announce_shutdown(now)

    def abort(self) -> None:
        """End the connection as a broken cable would."""
        self._transport.abort()

    async def _send_or_hold(self, pending: PendingFrame) -> None:
        """Send at once, or hold back what a fault delays or reorders."""
        reorder = self.simulation.faults.find(self.exchange, "reorder", pending.frame.instrument)
        if pending.send_at:
            self._delayed.append(pending)
        elif reorder:
            self._reordered.append(pending._replace(faults=[*pending.faults, reorder]))
        else:
            await self._send_frame(pending)

    async def _release_held(self, now: int) -> None:
        """Send what faults no longer hold back."""
        reorder = next(self.simulation.faults.at_exchange(self.exchange, "reorder"), None)
        if self._reordered and (not reorder or len(self._reordered) >= reorder.parameters["size"]):
            held, self._reordered = self._reordered[::-1], []
            for pending in held:
                await self._send_frame(pending)
        delayed = any(self.simulation.faults.at_exchange(self.exchange, "delay"))
        while self._delayed and (not delayed or self._delayed[0].send_at <= now):
            await self._send_frame(self._delayed.popleft())

    async def _send_frame(self, pending: PendingFrame) -> None:
        faults, frame = self.simulation.faults, pending.frame
        self._sent_count += 1
        text, applied = pending.text, list(pending.faults)
        malformed = faults.find(self.exchange, "garbage", frame.instrument)
        if malformed and self._sent_count % int(malformed.parameters["every"]) == 0:
            text = make_malformed(text, self._sent_count)
            applied.append(malformed)
        duplicate = faults.find(self.exchange, "duplicate", frame.instrument)
        for _ in range(int(duplicate.parameters["times"]) if duplicate else 1):
            if await self._send_text(text):
                self._record(frame, [*applied, *filter(None, [duplicate])])

    def _record(self, frame: OutgoingFrame, applied: list[Fault]) -> None:
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
                faults=tuple(fault.fault for fault in applied),
            )
            self.simulation.ledger.add(entry)

    async def _send_text(self, text: str) -> bool:
        """Return whether the client was still connected."""
        if not self.closed:
            with contextlib.suppress(WebSocketDisconnect):  # the reader ends by it too
                await self._websocket.send_text(text)
                return True
        return False


def transport_of(connection: HTTPConnection) -> asyncio.Transport:
    """Return the transport of a client's connection, which ASGI has no message to abort."""
    transport: asyncio.Transport = connection.scope["extensions"][TRANSPORT_EXTENSION]
    return transport
