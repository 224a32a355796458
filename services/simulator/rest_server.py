"""How a simulated request is answered: limits and faults first, then the exchange's own words."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.simulator.fault_injection import ENCODER, PayloadFields, make_malformed
from services.simulator.simulated_socket import transport
from services.simulator.simulation import Simulation

READ_METHODS = ("GET", "HEAD")
ALL_METHODS = [*READ_METHODS, "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
LINGER_SECONDS = 0.05  # time for the server to notice that the connection is gone


class ErrorFactory(Protocol):
    """How an exchange says no."""

    def __call__(self, status: int, retry_after: int) -> Response:
        """An answer with that status, as on the wire."""


class ApiResponse(NamedTuple):
    """What an exchange says to a request."""

    status: int
    body: Any


class ApiError(Exception):
    """The request cannot be answered; the exchange says why."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.response = ApiResponse(status, body)


def fault_response(sim: Simulation, exchange: str, error_factory: ErrorFactory) -> Response | None:
    """The answer that an active fault gives instead of the exchange."""
    for fault in sim.faults.at_exchange(exchange, "refuse", "status"):
        sim.request_counts[f"{exchange} {int(fault.parameters['status'])}"] += 1
        return error_factory(int(fault.parameters["status"]), int(fault.parameters.get("retry_after", 0)))
    return None


async def check_faults(sim: Simulation, exchange: str, error_factory: ErrorFactory) -> Response | None:
    """What stands between a request and the exchange: None lets it pass."""
    if sim.faults.find(exchange, "kill"):
        sim.request_counts[f"{exchange} reset"] += 1
        await reset_connection()
        return Response(status_code=503)
    if late := sim.faults.find(exchange, "delay"):
        await sim.clock.sleep(late.parameters["ms"] / 1000)
    return fault_response(sim, exchange, error_factory)


async def reset_connection() -> None:
    """Cut the connection of the running request without an answer."""
    if line := transport():
        line.abort()
    await asyncio.sleep(LINGER_SECONDS)


async def render_response(sim: Simulation, payload_fields: PayloadFields, response: Awaitable[ApiResponse]) -> Response:
    """The answer as the faults of data make it."""
    status, body = await response
    sim.request_counts[f"{payload_fields.exchange} {status}"] += 1
    text = ENCODER.encode(payload_fields.corrupt(body, sim.faults, None)[0]).decode()
    spoilt, turn = sim.faults.find(payload_fields.exchange, "garbage"), sim.request_counts.total()
    if spoilt and turn % int(spoilt.parameters["every"]) == 0:
        text = make_malformed(text, turn)
    return Response(text, status, media_type="application/json")


async def compute_response(compute: Callable[[], Any]) -> ApiResponse:
    """What `compute` gives or raises, off the event loop."""
    try:
        return ApiResponse(200, await asyncio.to_thread(compute))
    except ApiError as wrong:
        return wrong.response


def html_page(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """What the servers before an exchange say by themselves."""
    title = f"{status} {HTTPStatus(status).phrase}"
    text = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>"
    return Response(text, status, headers, "text/html")


def client_address(connection: HTTPConnection) -> str:
    """The client's address."""
    return connection.client.host if connection.client else ""
