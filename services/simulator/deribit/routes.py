"""Deribit's addresses: `/simulator/deribit/ws/api/v2` and `/simulator/deribit/api/v2/<method>`."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response, WebSocket

from services.simulator.deribit.payloads import DIALECT
from services.simulator.deribit.rpc import Call, envelope, reply
from services.simulator.deribit.session import RpcSession
from services.simulator.dialect import ENCODER
from services.simulator.rest import Answer, gate, respond
from services.simulator.service import Simulation, simulation
from services.simulator.sockets import admit, serve

router = APIRouter(prefix="/simulator/deribit", include_in_schema=False)

BLOCKED = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
ERRORS = {
    429: (10028, "too_many_requests"),
    451: (12005, "country_is_banned"),
    500: (11094, "internal_server_error"),
    503: (13503, "unavailable"),
}
UNREADABLE = {"code": -32700, "message": "Parse error"}
STATUSES = {13009: 401, 11094: 500, 10028: 429}


@router.websocket("/ws/api/v2")
async def socket(socket: WebSocket) -> None:
    """JSON-RPC over a WebSocket."""
    line = await admit(socket, DIALECT, refuse)
    if line:
        async with line:
            await serve(line, RpcSession(line))


@router.get("/api/v2/{method:path}")
async def get(method: str, request: Request) -> Response:
    """A call by its address and query."""
    return await _answer(request, {"method": method, "params": dict(request.query_params)})


@router.post("/api/v2/{method:path}")
@router.post("/api/v2")
async def post(request: Request, method: str = "") -> Response:
    """A call by its body."""
    try:
        body = msgspec.json.decode(await request.body(), type=dict[str, Any])
    except msgspec.MsgspecError:
        return await _answer(request, None)
    return await _answer(request, {"method": method, **body} if method else body)


async def _answer(request: Request, call: Call | None) -> Response:
    sim = simulation(request)
    refused = await gate(sim, "deribit", refuse)
    return refused or await respond(sim, DIALECT, _replied(sim, call))


async def _replied(sim: Simulation, call: Call | None) -> Answer:
    body = await reply(sim, call, {}) if call else envelope(sim, {}, sim.now(), error=UNREADABLE)
    status = STATUSES.get(body["error"]["code"], 400) if "error" in body else 200
    return Answer(status, body)


def refuse(status: int, retry_after: int) -> Response:
    """An error with the body that Deribit sends; pages from what stands before it."""
    headers = {"retry-after": str(retry_after)} if status in (418, 429) else {}
    if status not in ERRORS:
        return Response(BLOCKED.format(status), status, headers, "text/html")
    code, message = ERRORS[status]
    body = {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "testnet": False}
    return Response(ENCODER.encode(body), status, headers, "application/json")
