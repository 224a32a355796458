"""Binance's routes: `/simulator/binance/api/v3/…`, `/stream` and `/ws`."""

import re
from collections.abc import Mapping
from functools import partial

from fastapi import APIRouter, Request, Response, WebSocket

from services.simulator.binance.payloads import PAYLOAD_FIELDS
from services.simulator.binance.query_params import Query
from services.simulator.binance.rest_endpoints import (
    REST_ENDPOINTS,
    RETIRED,
    SIGNED_METHODS,
    RestEndpoint,
    allowed_methods,
)
from services.simulator.binance.session import BinanceSession
from services.simulator.fault_injection import ENCODER
from services.simulator.limits import Spending
from services.simulator.rest_server import (
    ALL_METHODS,
    ApiError,
    check_faults,
    client_address,
    compute_response,
    html_page,
    refuse_other_paths,
    render_response,
)
from services.simulator.simulation import Simulation, simulation_of
from services.simulator.socket_server import admit, serve_socket

router = APIRouter(prefix="/simulator/binance", include_in_schema=False)

MAX_EXCESS_REQUESTS = 20  # over the limit, before the address is banned
RESTRICTED = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in https://www.binance.com/en/terms. "
    "Please contact customer service if you believe you received this message in error."
)
TOO_MUCH = (
    "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. Please use WebSocket Streams for "
    "live updates to avoid polling the API."
)
BANNED = (
    "Way too much request weight used; IP banned until {until}. Please use WebSocket Streams for live updates to avoid "
    "bans."
)
ERRORS = {
    418: (-1003, BANNED),
    429: (-1003, TOO_MUCH),
    451: (0, RESTRICTED),
    500: (-1000, "An unknown error occurred while processing the request."),
    502: (-1001, "Internal error; unable to process your request. Please try again."),
    503: (-1008, "Server is currently overloaded with other requests. Please try again in a few minutes."),
    504: (-1007, "Timeout waiting for response from backend server. Send status unknown; execution status unknown."),
}
API_KEY = re.compile("[A-Za-z0-9]{64}")


@router.api_route("/api/v3/{name:path}", methods=ALL_METHODS)
async def rest(name: str, request: Request) -> Response:
    """Serve any REST endpoint."""
    sim = simulation_of(request)
    refused = await check_faults(request, sim, "binance", partial(error_response, sim.now()))
    if refused:
        return refused
    if request.method not in allowed_methods(name):
        return _wrong_path(name, request.method)
    if name in SIGNED_METHODS:
        return _rejected_key(request.headers.get("x-mbx-apikey", ""))
    endpoint = REST_ENDPOINTS[name]
    spent = sim.binance_weights.spend(client_address(request), _weight(endpoint, request.query_params), sim.now())
    if spent.excess:
        return _over_limit(sim, spent)
    response = await render_response(
        sim, PAYLOAD_FIELDS, compute_response(lambda: endpoint.respond(sim, request.query_params))
    )
    response.headers.update({"x-mbx-used-weight": str(spent.used), "x-mbx-used-weight-1m": str(spent.used)})
    return response


@router.websocket("/stream")
async def combined(socket: WebSocket) -> None:
    """Serve combined streams, named in the query."""
    names = socket.query_params.get("streams", "").split("/")
    await _serve_streams(socket, names, combined=True)


@router.websocket("/ws")
@router.websocket("/ws/{names:path}")
async def raw(socket: WebSocket, names: str = "") -> None:
    """Serve raw streams, named in the path."""
    await _serve_streams(socket, names.split("/"), combined=False)


refuse_other_paths(router, "")


async def _serve_streams(socket: WebSocket, names: list[str], *, combined: bool) -> None:
    line = await admit(socket, PAYLOAD_FIELDS, partial(error_response, simulation_of(socket).now()))
    if line is None:
        return
    microseconds = socket.query_params.get("timeUnit", "").upper() == "MICROSECOND"
    async with line:
        await serve_socket(line, BinanceSession(line, names, combined, microseconds))


def error_response(now: int, status: int, retry_after: int) -> Response:
    """Return an error with Binance's body."""
    headers = {"retry-after": str(retry_after)} if status in (418, 429) else {}
    if status not in ERRORS:
        return html_page(status, headers)
    code, text = ERRORS[status]
    return _error(status, code, text.format(until=now + retry_after * 1000), headers)


def _wrong_path(name: str, method: str) -> Response:
    """Return the error of a path that does not exist, is retired, or has no such method."""
    methods = allowed_methods(name)
    if not methods:
        return html_page(410 if name in RETIRED else 404)
    return _error(405, -1000, f"Request method '{method}' not supported", {"allow": ", ".join(methods)})


def _rejected_key(key: str) -> Response:
    """Reject any API key: the simulator has no accounts."""
    if not API_KEY.fullmatch(key):
        return _error(401, -2014, "API-key format invalid.")
    return _error(401, -2015, "Invalid API-key, IP, or permissions for action.")


def _error(status: int, code: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(ENCODER.encode({"code": code, "msg": text}), status, headers, "application/json")


def _weight(endpoint: RestEndpoint, query: Query) -> int:
    try:
        return endpoint.weight(query)
    except ApiError:
        return 1  # the response names the error


def _over_limit(sim: Simulation, spent: Spending) -> Response:
    """Return 429 over the limit, and 418 to a client that does not stop."""
    sim.request_counts["binance over the limit"] += 1
    return (
        error_response(sim.now(), 418, 120)
        if spent.excess > MAX_EXCESS_REQUESTS
        else error_response(sim.now(), 429, spent.retry_after)
    )
