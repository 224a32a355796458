"""Deribit's JSON-RPC: calls, results and their envelope."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from services.simulator.deribit.methods import METHODS
from services.simulator.deribit.rpc_params import Parameters, RpcError
from services.simulator.simulation import Simulation

Call = Mapping[str, Any]
SOCKET_ONLY = (
    "public/subscribe",
    "public/unsubscribe",
    "public/unsubscribe_all",
    "public/set_heartbeat",
    "public/disable_heartbeat",
    "private/subscribe",
    "private/unsubscribe",
)


async def reply(sim: Simulation, call: Call, session: Mapping[str, Callable[[Parameters], Any]]) -> dict[str, Any]:
    """Return the response to a call. `session` holds the methods that change the connection."""
    received = sim.now()
    method, params = call.get("method"), call.get("params") or {}
    try:
        if not isinstance(method, str):
            raise RpcError(-32600, "Invalid Request")
        if not isinstance(params, dict):
            raise RpcError(-32602, "Invalid params")
        result = session[method](params) if method in session else await asyncio.to_thread(_call, sim, method, params)
    except RpcError as refused:
        return envelope(sim, call, received, error=refused.error)
    return envelope(sim, call, received, result=result)


def envelope(sim: Simulation, call: Call, received: int, **outcome: Any) -> dict[str, Any]:
    """Return the envelope of a `result` or an `error`, with the call's id if it had one."""
    number = {"id": call["id"]} if "id" in call else {}
    now = sim.now()
    took = {"usIn": received * 1000, "usOut": now * 1000, "usDiff": (now - received) * 1000}
    return {"jsonrpc": "2.0", **number, **outcome, **took, "testnet": False}


def _call(sim: Simulation, method: str, params: Parameters) -> Any:
    if method in SOCKET_ONLY:
        raise RpcError(10030, "must_be_websocket_request")
    if method.startswith("private/"):
        raise RpcError(13009, "unauthorized")
    if method not in METHODS:
        raise RpcError(-32601, "Method not found")
    return METHODS[method](sim, params)
