"""CoinGecko's routes: `/simulator/coingecko/api/v3/…`, and the same under `/simulator/coingecko-pro`."""

from fastapi import APIRouter, Request, Response, WebSocket
from starlette.requests import HTTPConnection

from services.simulator.coingecko.rest_endpoints import PAYLOAD_FIELDS, call_endpoint
from services.simulator.coingecko.session import CoinGeckoSession
from services.simulator.fault_injection import ENCODER
from services.simulator.rest_server import (
    ALL_METHODS,
    READ_METHODS,
    check_faults,
    client_address,
    compute_response,
    refuse_other_paths,
    render_response,
)
from services.simulator.simulation import simulation_of
from services.simulator.socket_server import admit, serve_socket

router = APIRouter(prefix="/simulator", include_in_schema=False)

CALLS_PER_MINUTE = {"keyless": 60, "demo": 100, "pro": 500}  # a minute; for keyless ones no number is published
RATE_LIMIT_MESSAGE = (
    "You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing to subscribe to our API "
    "plans for higher rate limits."
)
ERROR_MESSAGES = {
    429: RATE_LIMIT_MESSAGE,
    403: "Forbidden",
    500: "Internal Server Error",
    503: "Service Unavailable",
    10002: "API Key Missing. Please make sure you're using the right authentication method.",
    10010: "If you are using Pro API key, please change your root URL from api.coingecko.com to pro-api.coingecko.com",
    10011: "If you are using Demo API key, please change your root URL from pro-api.coingecko.com to api.coingecko.com",
}


@router.api_route("/coingecko/api/v3/{name:path}", methods=ALL_METHODS)
async def public(name: str, request: Request) -> Response:
    """Serve the public host: keyless, or with a demo key."""
    if _api_key(request, "pro"):
        return _error(400, 10010)
    return await _answer(request, name, "demo" if _api_key(request, "demo") else "keyless")


@router.api_route("/coingecko-pro/api/v3/{name:path}", methods=ALL_METHODS)
async def pro(name: str, request: Request) -> Response:
    """Serve the pro host: with a pro key."""
    if _api_key(request, "demo"):
        return _error(400, 10011)
    return await _answer(request, name, "pro") if _api_key(request, "pro") else _error(401, 10002)


@router.websocket("/coingecko/v1")
@router.websocket("/coingecko-pro/v1")
async def stream(socket: WebSocket) -> None:
    """Serve the WebSocket: with a pro key."""
    if not _api_key(socket, "pro"):
        await socket.send_denial_response(_error(401, 10002))
        return
    line = await admit(socket, PAYLOAD_FIELDS, error_response)
    if line:
        async with line:
            await serve_socket(line, CoinGeckoSession(line))


refuse_other_paths(router, "/coingecko", "/coingecko-pro")


async def _answer(request: Request, path: str, plan: str) -> Response:
    sim = simulation_of(request)
    refused = await check_faults(request, sim, "coingecko", error_response)
    if refused:
        return refused
    spent = sim.coingecko_calls.spend(f"{client_address(request)} {plan}", 1, sim.now())
    if spent.used > CALLS_PER_MINUTE[plan]:
        sim.request_counts["coingecko over the limit"] += 1
        return error_response(429, spent.retry_after)
    name = path if request.method in READ_METHODS else ""  # its routes are by method, too: another one is no route
    return await render_response(
        sim, PAYLOAD_FIELDS, compute_response(lambda: call_endpoint(sim, request.query_params, name))
    )


def error_response(status: int, retry_after: int) -> Response:
    """Return an error with CoinGecko's body; for 403 and 502 a page of the network in front of it."""
    headers = {"retry-after": str(retry_after)} if status == 429 else {}
    if status in (403, 502):
        return Response(
            f"<html><head><title>Error {status}</title></head><body>error code: 1020</body></html>", status, headers
        )
    return _error(status, status, headers)


def _error(status: int, code: int, headers: dict[str, str] | None = None) -> Response:
    body = {"error_code": code, "error_message": ERROR_MESSAGES.get(code, "Service Unavailable")}
    return Response(ENCODER.encode({"status": body}), status, headers, "application/json")


def _api_key(request: HTTPConnection, plan: str) -> str | None:
    name = f"x_cg_{plan}_api_key"
    return request.headers.get(name.replace("_", "-")) or request.query_params.get(name)
