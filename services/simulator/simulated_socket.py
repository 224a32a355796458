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
from services.simulator.fault_injection import ENCODER, Dialect, garbage
from services.simulator.faults import Fault
from services.simulator.ledger import Entry

if TYPE_CHECKING:
    from services.simulator.simulation import Simulation

NUMBERS = count(1)
TURN_SECONDS = 0.005  # of the event loop, for one socket's frames


class Frame(NamedTuple):
    """One message to a client; what it is about, for the ledger."""

    body: dict[str, Any]
    instrument: Instrument | None = None
    kind: str = ""  # empty: not for the ledger
    id: str = ""
    price: str | None = None


class Parcel(NamedTuple):
    """A frame on its way."""

    frame: Frame
    text: str
    due: int  # when it may go; 0: now
    faults: list[Fault]


class Announcer(Protocol):
    """Who can tell the client of a shutdown in the exchange's words."""

    async def announce_shutdown(self, now: int) -> None:
        """Tell it."""


class Line:
    """One open socket."""

    def __init__(self, simulation: "Simulation", socket: WebSocket, dialect: Dialect) -> None:
        self.simulation, self.dialect = simulation, dialect
        self.exchange = dialect.exchange
        self.number = next(NUMBERS)
        self.opened = simulation.now()
        self.session: Announcer | None = None
        self.ends: int | None = None  # when a shutdown closes it
        self._socket = socket
        self._transport = transport()
        self._held: list[Parcel] = []
        self._late: deque[Parcel] = deque()
        self._sent = 0

    async def __aenter__(self) -> "Line":
        await self._socket.accept()
        self.simulation.lines.add(self)
        self.simulation.requests[f"{self.exchange} connect"] += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.simulation.lines.discard(self)

    async def messages(self) -> AsyncIterator[str]:
        """What the client sends, until it leaves."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            yield message.get("text") or (message.get("bytes") or b"").decode(errors="replace")

    async def reply(self, body: Any) -> None:
        """Answer the client. Faults of data do not touch answers."""
        await self._send(ENCODER.encode(body).decode())

    async def push(self, frames: Iterable[Frame]) -> None:
        """Send what the market gives, as the active faults let it. `frames` are made as they go, others in between."""
        faults, now = self.simulation.faults, self.simulation.now()
        await self._release(now)
        turn = time.monotonic()
        for frame in frames:
            if time.monotonic() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = time.monotonic()
            if faults.find(self.exchange, "mute", frame.instrument):
                continue
            body, hit = self.dialect.distort(frame.body, faults, frame.instrument)
            late = faults.find(self.exchange, "delay", frame.instrument)
            due = now + int(late.parameters["ms"]) if late else 0
            parcel = Parcel(frame, ENCODER.encode(body).decode(), due, [*hit, *filter(None, [late])])
            await self._order(parcel)
        await self._release(now)

    async def close(self, code: int, reason: str = "") -> None:
        """Close with a code."""
        if not self.closed:
            with contextlib.suppress(WebSocketDisconnect):
                await self._socket.close(code, reason)

    @property
    def closed(self) -> bool:
        """Whether one side ended it."""
        states = (self._socket.application_state, self._socket.client_state)
        return WebSocketState.DISCONNECTED in states

    async def shut_down(self, seconds: float) -> None:
        """Say that the exchange goes down, and close some time later."""
        now = self.simulation.now()
        self.ends = now + round(seconds * 1000)
        if self.session:
            await self.session.announce_shutdown(now)

    def cut(self) -> None:
        """End the connection as a broken cable would."""
        if self._transport:
            self._transport.abort()

    async def _order(self, parcel: Parcel) -> None:
        """Send at once, or hold back what is to come late or in another order."""
        reorder = self.simulation.faults.find(self.exchange, "reorder", parcel.frame.instrument)
        if parcel.due:
            self._late.append(parcel)
        elif reorder:
            self._held.append(parcel._replace(faults=[*parcel.faults, reorder]))
        else:
            await self._deliver(parcel)

    async def _release(self, now: int) -> None:
        """Send what is no longer to be held back."""
        reorder = next(self.simulation.faults.of(self.exchange, "reorder"), None)
        if self._held and (not reorder or len(self._held) >= reorder.parameters["size"]):
            held, self._held = self._held[::-1], []
            for parcel in held:
                await self._deliver(parcel)
        delayed = any(self.simulation.faults.of(self.exchange, "delay"))
        while self._late and (not delayed or self._late[0].due <= now):
            await self._deliver(self._late.popleft())

    async def _deliver(self, parcel: Parcel) -> None:
        faults, frame = self.simulation.faults, parcel.frame
        self._sent += 1
        text, hit = parcel.text, list(parcel.faults)
        spoilt = faults.find(self.exchange, "garbage", frame.instrument)
        if spoilt and self._sent % int(spoilt.parameters["every"]) == 0:
            text = garbage(text, self._sent)
            hit.append(spoilt)
        double = faults.find(self.exchange, "duplicate", frame.instrument)
        for _ in range(int(double.parameters["times"]) if double else 1):
            if await self._send(text):
                self._note(frame, [*hit, *filter(None, [double])])

    def _note(self, frame: Frame, hit: list[Fault]) -> None:
        if frame.kind:
            entry = Entry(
                number=self.simulation.ledger.next,
                sent=self.simulation.now(),
                exchange=self.exchange,
                connection=self.number,
                instrument=str(frame.instrument),
                kind=frame.kind,
                id=frame.id,
                price=frame.price,
                faults=tuple(fault.fault for fault in hit),
            )
            self.simulation.ledger.add(entry)

    async def _send(self, text: str) -> bool:
        """Whether there was still somebody to send it to."""
        if not self.closed:
            with contextlib.suppress(WebSocketDisconnect):  # the reader hears of it, too
                await self._socket.send_text(text)
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
