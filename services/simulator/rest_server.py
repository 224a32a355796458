"""Responses to REST requests: faults and limits first, then the exchange's own response."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from fastapi import APIRouter
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from services.simulator.fault_injection import ENCODER, PayloadFields, make_malformed
from services.simulator.simulated_socket import transport_of
from services.simulator.simulation import Simulation

READ_METHODS = ("GET", "HEAD")
ALL_METHODS = [*READ_METHODS, "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
LINGER_SECONDS = 0.05  # in which the server notices that the connection is closed


class ErrorFactory(Protocol):
    """How an exchange formats an error."""

    def __call__(self, status: int, retry_after: int) -> Response:
        """Return the response with that status."""


class ApiResponse(NamedTuple):
    """Status and body of an exchange's response."""

    status: int
    body: Any


class ApiError(Exception):
    """Raised for a request that the exchange rejects with this status and body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.response = ApiResponse(status, body)


def fault_response(sim: Simulation, exchange: str, error_factory: ErrorFactory) -> Response | None:
    """Return the response of an active fault, if there is one."""
    for fault in sim.faults.at_exchange(exchange, "refuse", "status"):
        sim.request_counts[f"{exchange} {int(fault.parameters['status'])}"] += 1
        return error_factory(int(fault.parameters["status"]), int(fault.parameters.get("retry_after", 0)))
    return None


async def check_faults(
    request: HTTPConnection, sim: Simulation, exchange: str, error_factory: ErrorFactory
) -> Response | None:
    """Apply the active faults to a request. Return the response of one; None lets the request pass."""
    if sim.faults.find(exchange, "kill"):
        sim.request_counts[f"{exchange} reset"] += 1
        await reset_connection(request)
        return Response(status_code=503)
    if delay := sim.faults.find(exchange, "delay"):
        await sim.clock.sleep(delay.parameters["ms"] / 1000)
    return fault_response(sim, exchange, error_factory)


async def reset_connection(connection: HTTPConnection) -> None:
    """Abort a client's connection without a response."""
    transport_of(connection).abort()
    await asyncio.sleep(LINGER_SECONDS)


async def render_response(sim: Simulation, payload_fields: PayloadFields, response: Awaitable[ApiResponse]) -> Response:
    """Encode a response, with the active faults of data applied."""
    status, body = await response
    sim.request_counts[f"{payload_fields.exchange} {status}"] += 1
    text = ENCODER.encode(payload_fields.corrupt(body, sim.faults, None)[0]).decode()
    malformed, count = sim.faults.find(payload_fields.exchange, "garbage"), sim.request_counts.total()
    if malformed and count % int(malformed.parameters["every"]) == 0:
        text = make_malformed(text, count)
    return Response(text, status, media_type="application/json")


async def compute_response(compute: Callable[[], Any]) -> ApiResponse:
    """Run `compute` in a thread. Return its body, or the ApiError that it raises."""
    try:
        return ApiResponse(200, await asyncio.to_thread(compute))
    except ApiError as error:
        return error.response


def html_page(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error page as the servers in front of an exchange send it."""
    title = f"{status} {HTTPStatus(status).phrase}"
    text = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>"
    return Response(text, status, headers, "text/html")


def refuse_other_paths(router: APIRouter, *prefixes: str) -> None:
    """Refuse requests and WebSockets of every path below the prefixes that the router has no route for."""
    for prefix in prefixes:
        router.add_api_websocket_route(f"{prefix}/{{path:path}}", _refuse_socket)
        router.add_api_route(f"{prefix}/{{path:path}}", _not_found, methods=ALL_METHODS)


async def _refuse_socket(socket: WebSocket) -> None:
    await socket.send_denial_response(html_page(404))


async def _not_found() -> Response:
    return html_page(404)


def client_address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""
