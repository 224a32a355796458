"""How a simulated socket lives: refused or accepted, read and fed until one side ends it."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from fastapi import WebSocket
from starlette.responses import PlainTextResponse, Response

from services.simulator.fault_injection import Dialect
from services.simulator.rest_server import LINGER_SECONDS, Refusals, client, refusal, reset
from services.simulator.simulated_socket import Frame, Line
from services.simulator.simulation import Simulation, simulation

LOOK_SECONDS = 0.05
LONGEST_MS = (
    120_000  # of what is told at once: what a clock that was set, or a machine that slept, left out is not sent
)
STRANGE_PAGE = (
    "pages of this Origin may not connect to the simulator: see CORS_ALLOWED_ORIGINS, or KURS_ALLOWED_HOSTS for those "
    "of this server"
)


class Session(Protocol):
    """What one client asked of one exchange."""

    async def hear(self, text: str) -> None:
        """A message came."""

    def frames(self, since: int, until: int) -> Iterable[Frame]:
        """What happened in (since, until] and concerns this client."""

    async def announce_shutdown(self, now: int) -> None:
        """The exchange goes down soon: say so."""

    async def look(self, now: int) -> None:
        """Time passed: keep the session's own promises."""


async def admit(socket: WebSocket, dialect: Dialect, refusals: Refusals) -> Line | None:
    """A line for the socket; None if a fault or a limit refused it, or it is for a page of others."""
    sim = simulation(socket)
    if not sim.hosts.admits_page(dict(socket.headers.raw), sim.pages):
        await socket.send_denial_response(PlainTextResponse(STRANGE_PAGE, 403))
        return None
    if sim.faults.find(dialect.exchange, "kill"):
        await reset()
        return None
    refuse = sim.faults.find(dialect.exchange, "refuse")
    if refuse and refuse.parameters["close"]:
        await socket.accept()
        await socket.close(int(refuse.parameters["close"]))
        return None
    response = refusal(sim, dialect.exchange, refusals) or _too_many(sim, socket, dialect.exchange, refusals)
    if response is None:
        return Line(sim, socket, dialect)
    await socket.send_denial_response(response)
    await asyncio.sleep(LINGER_SECONDS)
    return None


def _too_many(sim: Simulation, socket: WebSocket, exchange: str, refusals: Refusals) -> Response | None:
    budget = sim.connects.get(exchange)
    spent = budget.spend(client(socket), 1, sim.now()) if budget else None
    return refusals(429, spent.retry_after) if spent and spent.excess else None


async def serve(line: Line, session: Session) -> None:
    """Read and feed until the socket ends."""
    line.session = session
    async with asyncio.TaskGroup() as tasks:
        feeder = tasks.create_task(_feed(line, session))
        async for text in line.messages():
            await session.hear(text)
        feeder.cancel()


async def _feed(line: Line, session: Session) -> None:
    """Tell the client what happened since the last look."""
    since = line.opened
    while not line.closed:
        await line.simulation.clock.sleep(LOOK_SECONDS)
        now = line.simulation.now()
        await line.push(session.frames(max(since, now - LONGEST_MS), now))
        await session.look(now)
        since = now
        if line.ends is not None and now >= line.ends:
            await line.close(1001)
