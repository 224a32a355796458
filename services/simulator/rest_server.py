"""How a simulated request is answered: limits and faults first, then the exchange's own words."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.simulator.fault_injection import ENCODER, Dialect, garbage
from services.simulator.simulated_socket import transport
from services.simulator.simulation import Simulation

READ = ("GET", "HEAD")
METHODS = [*READ, "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
LINGER_SECONDS = 0.05  # time for the server to notice that the connection is gone


class Refusals(Protocol):
    """How an exchange says no."""

    def __call__(self, status: int, retry_after: int) -> Response:
        """An answer with that status, as on the wire."""


class Answer(NamedTuple):
    """What an exchange says to a request."""

    status: int
    body: Any


class Wrong(Exception):
    """The request cannot be answered; the exchange says why."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.answer = Answer(status, body)


def refusal(sim: Simulation, exchange: str, refusals: Refusals) -> Response | None:
    """The answer that an active fault gives instead of the exchange."""
    for fault in sim.faults.of(exchange, "refuse", "status"):
        sim.requests[f"{exchange} {int(fault.parameters['status'])}"] += 1
        return refusals(int(fault.parameters["status"]), int(fault.parameters.get("retry_after", 0)))
    return None


async def gate(sim: Simulation, exchange: str, refusals: Refusals) -> Response | None:
    """What stands between a request and the exchange: None lets it pass."""
    if sim.faults.find(exchange, "kill"):
        sim.requests[f"{exchange} reset"] += 1
        await reset()
        return Response(status_code=503)
    if late := sim.faults.find(exchange, "delay"):
        await sim.clock.sleep(late.parameters["ms"] / 1000)
    return refusal(sim, exchange, refusals)


async def reset() -> None:
    """Cut the connection of the running request without an answer."""
    if line := transport():
        line.abort()
    await asyncio.sleep(LINGER_SECONDS)


async def respond(sim: Simulation, dialect: Dialect, answer: Awaitable[Answer]) -> Response:
    """The answer as the faults of data make it."""
    status, body = await answer
    sim.requests[f"{dialect.exchange} {status}"] += 1
    text = ENCODER.encode(dialect.distort(body, sim.faults, None)[0]).decode()
    spoilt, turn = sim.faults.find(dialect.exchange, "garbage"), sim.requests.total()
    if spoilt and turn % int(spoilt.parameters["every"]) == 0:
        text = garbage(text, turn)
    return Response(text, status, media_type="application/json")


async def computed(compute: Callable[[], Any]) -> Answer:
    """What `compute` gives or raises, off the event loop."""
    try:
        return Answer(200, await asyncio.to_thread(compute))
    except Wrong as wrong:
        return wrong.answer


def page(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """What the servers before an exchange say by themselves."""
    title = f"{status} {HTTPStatus(status).phrase}"
    text = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>"
    return Response(text, status, headers, "text/html")


def client(connection: HTTPConnection) -> str:
    """The client's address."""
    return connection.client.host if connection.client else ""
