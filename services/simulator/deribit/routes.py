"""Deribit's routes: `/simulator/deribit/ws/api/v2` and `/simulator/deribit/api/v2/<method>`."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response, WebSocket

from services.simulator.deribit.payloads import PAYLOAD_FIELDS
from services.simulator.deribit.rpc import Call, envelope, reply
from services.simulator.deribit.session import DeribitSession
from services.simulator.fault_injection import ENCODER, decode
from services.simulator.rest_server import (
    ALL_METHODS,
    READ_METHODS,
    ApiResponse,
    check_faults,
    html_page,
    refuse_other_paths,
    render_response,
)
from services.simulator.simulation import Simulation, simulation_of
from services.simulator.socket_server import admit, serve_socket

router = APIRouter(prefix="/simulator/deribit", include_in_schema=False)

ERRORS = {
    429: (10028, "too_many_requests"),
    451: (12005, "country_is_banned"),
    500: (11094, "internal_server_error"),
    503: (13503, "unavailable"),
}
PARSE_ERROR = {"code": -32700, "message": "Parse error"}
STATUS_BY_CODE = {13009: 401, 11094: 500, 10028: 429}


@router.websocket("/ws/api/v2")
async def socket(socket: WebSocket) -> None:
    """Serve JSON-RPC over a WebSocket."""
    line = await admit(socket, PAYLOAD_FIELDS, error_response)
    if line:
        async with line:
            await serve_socket(line, DeribitSession(line))


@router.api_route("/api/v2/{method:path}", methods=ALL_METHODS)
@router.api_route("/api/v2", methods=ALL_METHODS)
async def call(request: Request, method: str = "") -> Response:
    """Serve a call by its path and query, or by its body."""
    if request.method in READ_METHODS:
        return await _answer(request, {"method": method, "params": dict(request.query_params)})
    if request.method != "POST":
        return _error(405, 11050, "bad_request", {"allow": ", ".join((*READ_METHODS, "POST"))})
    try:
        body = decode((await request.body()).decode(), dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return await _answer(request, None)
    return await _answer(request, {"method": method, **body} if method else body)


refuse_other_paths(router, "")


async def _answer(request: Request, call: Call | None) -> Response:
    sim = simulation_of(request)
    refused = await check_faults(request, sim, "deribit", error_response)
    return refused or await render_response(sim, PAYLOAD_FIELDS, _rpc_response(sim, call))


async def _rpc_response(sim: Simulation, call: Call | None) -> ApiResponse:
    body = await reply(sim, call, {}) if call else envelope(sim, {}, sim.now(), error=PARSE_ERROR)
    status = STATUS_BY_CODE.get(body["error"]["code"], 400) if "error" in body else 200
    return ApiResponse(status, body)


def error_response(status: int, retry_after: int) -> Response:
    """Return an error with Deribit's body, or a page of the servers in front of it."""
    headers = {"retry-after": str(retry_after)} if status in (418, 429) else {}
    if status not in ERRORS:
        return html_page(status, headers)
    return _error(status, *ERRORS[status], headers)


def _error(status: int, code: int, message: str, headers: Mapping[str, str]) -> Response:
    body = {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "testnet": False}
    return Response(ENCODER.encode(body), status, headers, "application/json")
