"""CoinGecko's addresses: `/simulator/coingecko/api/v3/…`, and the same under `/simulator/coingecko-pro`."""

from fastapi import APIRouter, Request, Response, WebSocket
from starlette.requests import HTTPConnection

from services.simulator.coingecko.rest_endpoints import DIALECT, answer
from services.simulator.coingecko.session import PriceSession
from services.simulator.fault_injection import ENCODER
from services.simulator.rest_server import METHODS, READ, client, computed, gate, page, respond
from services.simulator.simulation import simulation
from services.simulator.socket_server import admit, serve

router = APIRouter(prefix="/simulator", include_in_schema=False)

CALLS = {"keyless": 60, "demo": 100, "pro": 500}  # a minute; for keyless ones no number is published
LIMITED = (
    "You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing to subscribe to our API "
    "plans for higher rate limits."
)
MESSAGES = {
    429: LIMITED,
    403: "Forbidden",
    500: "Internal Server Error",
    503: "Service Unavailable",
    10002: "API Key Missing. Please make sure you're using the right authentication method.",
    10010: "If you are using Pro API key, please change your root URL from api.coingecko.com to pro-api.coingecko.com",
    10011: "If you are using Demo API key, please change your root URL from pro-api.coingecko.com to api.coingecko.com",
}


@router.api_route("/coingecko/api/v3/{name:path}", methods=METHODS)
async def public(name: str, request: Request) -> Response:
    """The public host: keyless, or with a demo key."""
    if _key(request, "pro"):
        return _error(400, 10010)
    return await _answer(request, name, "demo" if _key(request, "demo") else "keyless")


@router.api_route("/coingecko-pro/api/v3/{name:path}", methods=METHODS)
async def pro(name: str, request: Request) -> Response:
    """The pro host: with a pro key."""
    if _key(request, "demo"):
        return _error(400, 10011)
    return await _answer(request, name, "pro") if _key(request, "pro") else _error(401, 10002)


@router.websocket("/coingecko/v1")
@router.websocket("/coingecko-pro/v1")
async def stream(socket: WebSocket) -> None:
    """Prices as they change: with a pro key."""
    if not _key(socket, "pro"):
        await socket.send_denial_response(_error(401, 10002))
        return
    line = await admit(socket, DIALECT, refuse)
    if line:
        async with line:
            await serve(line, PriceSession(line))


@router.websocket("/coingecko/{path:path}")
@router.websocket("/coingecko-pro/{path:path}")
async def no_stream(socket: WebSocket) -> None:
    """No WebSocket is served there."""
    await socket.send_denial_response(page(404))


@router.api_route("/coingecko/{path:path}", methods=METHODS)
@router.api_route("/coingecko-pro/{path:path}", methods=METHODS)
async def nothing() -> Response:
    """Nothing is there."""
    return page(404)


async def _answer(request: Request, path: str, plan: str) -> Response:
    sim = simulation(request)
    refused = await gate(sim, "coingecko", refuse)
    if refused:
        return refused
    spent = sim.calls.spend(f"{client(request)} {plan}", 1, sim.now())
    if spent.used > CALLS[plan]:
        sim.requests["coingecko over the limit"] += 1
        return refuse(429, spent.retry_after)
    name = path if request.method in READ else ""  # its routes are by method, too: another one is no route
    return await respond(sim, DIALECT, computed(lambda: answer(sim, request.query_params, name)))


def refuse(status: int, retry_after: int) -> Response:
    """An error with a body that CoinGecko sends; a page from the network before it, for 403 and 502."""
    headers = {"retry-after": str(retry_after)} if status == 429 else {}
    if status in (403, 502):
        return Response(
            f"<html><head><title>Error {status}</title></head><body>error code: 1020</body></html>", status, headers
        )
    return _error(status, status, headers)


def _error(status: int, code: int, headers: dict[str, str] | None = None) -> Response:
    about = {"error_code": code, "error_message": MESSAGES.get(code, "Service Unavailable")}
    return Response(ENCODER.encode({"status": about}), status, headers, "application/json")


def _key(request: HTTPConnection, plan: str) -> str | None:
    name = f"x_cg_{plan}_api_key"
    return request.headers.get(name.replace("_", "-")) or request.query_params.get(name)
