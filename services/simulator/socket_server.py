"""Serves a WebSocket client of the simulator: admission, then reading and pushing until either side closes."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from fastapi import WebSocket
from starlette.responses import PlainTextResponse, Response

from services.simulator.fault_injection import PayloadFields
from services.simulator.rest_server import (
    LINGER_SECONDS,
    ErrorFactory,
    client_address,
    fault_response,
    reset_connection,
)
from services.simulator.simulated_socket import OutgoingFrame, SimulatedSocket
from services.simulator.simulation import Simulation, simulation_of

PUSH_INTERVAL_SECONDS = 0.05
MAX_CATCH_UP_MS = 120_000  # of frames sent at once; what a clock step or a sleeping machine left out is not sent
FOREIGN_ORIGIN = (
    "pages of this Origin may not connect to the simulator: set CORS_ALLOWED_ORIGINS, or KURS_ALLOWED_HOSTS for pages "
    "of this server"
)


class ClientSession(Protocol):
    """The subscriptions of one client at one exchange."""

    async def on_message(self, text: str) -> None:
        """Respond to a message."""

    def frames(self, since: int, until: int) -> Iterable[OutgoingFrame]:
        """Return the frames of (since, until] that this client subscribed to."""

    async def announce_shutdown(self, now: int) -> None:
        """Send the exchange's message about a shutdown, if it has one."""

    async def on_tick(self, now: int) -> None:
        """Send heartbeats and close what is too old."""


async def admit(
    socket: WebSocket, payload_fields: PayloadFields, error_factory: ErrorFactory
) -> SimulatedSocket | None:
    """Return the connection; None if a fault, a limit or its Origin refused it."""
    sim = simulation_of(socket)
    if not sim.hosts.allows_origin(dict(socket.headers.raw), sim.allowed_origins):
        await socket.send_denial_response(PlainTextResponse(FOREIGN_ORIGIN, 403))
        return None
    if sim.faults.find(payload_fields.exchange, "kill"):
        await reset_connection(socket)
        return None
    refuse = sim.faults.find(payload_fields.exchange, "refuse")
    if refuse and refuse.parameters["close"]:
        await socket.accept()
        await socket.close(int(refuse.parameters["close"]))
        return None
    response = fault_response(sim, payload_fields.exchange, error_factory) or _connection_limit_response(
        sim, socket, payload_fields.exchange, error_factory
    )
    if response is None:
        return SimulatedSocket(sim, socket, payload_fields)
    await socket.send_denial_response(response)
    await asyncio.sleep(LINGER_SECONDS)
    return None


def _connection_limit_response(
    sim: Simulation, socket: WebSocket, exchange: str, error_factory: ErrorFactory
) -> Response | None:
    budget = sim.connection_attempts.get(exchange)
    spent = budget.spend(client_address(socket), 1, sim.now()) if budget else None
    return error_factory(429, spent.retry_after) if spent and spent.excess else None


async def serve_socket(socket: SimulatedSocket, session: ClientSession) -> None:
    """Read and push until the connection ends."""
    socket.session = session
    async with asyncio.TaskGroup() as tasks:
        push_loop = tasks.create_task(_push_loop(socket, session))
        async for text in socket.messages():
            await session.on_message(text)
        push_loop.cancel()


async def _push_loop(socket: SimulatedSocket, session: ClientSession) -> None:
    """Send what has happened in the market since the last frames."""
    since = socket.opened_at
    while not socket.closed:
        await socket.simulation.clock.sleep(PUSH_INTERVAL_SECONDS)
        now = socket.simulation.now()
        await socket.send_frames(session.frames(max(since, now - MAX_CATCH_UP_MS), now))
        await session.on_tick(now)
        since = now
        if socket.closes_at is not None and now >= socket.closes_at:
            await socket.close(1001)
