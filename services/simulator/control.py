"""The simulator's control endpoints: faults, the ledger and the market behind all exchanges."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request, Response

from services.core.model import Instrument
from services.settings import Settings
from services.simulator.fault_injection import ENCODER
from services.simulator.faults import FAULT_KINDS, Fault
from services.simulator.market.listings import (
    ASSETS,
    BINANCE,
    COINGECKO_CURRENCIES,
    COINS,
    DERIBIT,
    INDICES,
    SimulatedListing,
)
from services.simulator.market.tape_quotes import quote
from services.simulator.simulation import Simulation, simulation_of
from services.web import AllowedHosts
from services.web.client_address import is_loopback

MAX_MARKET_TIME_MS = 2_524_608_000_000  # 2050; the market is defined until 2059
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip")  # a request with one of them is from another machine


async def require_local_client(request: Request) -> None:
    """Allow requests from this machine, and others if KURS_SIMULATOR_CONTROL is `all`. Raises HTTPException.

    A browser on this machine also loads pages of other sites, so the Host has to be ours, and a page's Origin too.
    """
    peer = request.client.host if request.client else "an unknown address"
    settings: Settings = request.app.state.deps.settings
    if settings.simulator_control == "all":
        return
    passed_on = any(name in request.headers for name in PROXY_HEADERS)
    if passed_on or not is_loopback(peer):
        whose = f"comes through a proxy at {peer}" if passed_on else f"comes from {peer}"
        raise HTTPException(
            403,
            f"the simulator's control is open to its own machine only, and this request {whose}; "
            "KURS_SIMULATOR_CONTROL=all opens it to every client of this port",
        )
    hosts = AllowedHosts(settings.allowed_hosts, settings.host)
    if not hosts.is_own_name(request.headers.get("host", "")):
        raise HTTPException(
            403,
            "the simulator's control accepts the Host localhost, an address or a name in KURS_ALLOWED_HOSTS, and this "
            "request has another Host",
        )
    if not hosts.allows_origin(dict(request.headers.raw)):
        raise HTTPException(403, "the simulator's control is not open to pages of other sites: send no Origin")


router = APIRouter(prefix="/simulator", tags=["simulator"], dependencies=[Depends(require_local_client)])

FAULT_INSTRUMENTS = {
    "binance": [str(listing.instrument) for listing in BINANCE.values()],
    "deribit": [
        *(str(listing.instrument) for listing in DERIBIT.values()),
        *(name.upper().replace("_", "-") for name in INDICES),
    ],
    "coingecko": [f"{asset}-{currency.upper()}" for asset, _ in COINS.values() for currency in COINGECKO_CURRENCIES],
}
COMMON_FIELDS = ("exchange", "fault", "instrument", "seconds")
MAX_FAULT_SECONDS = 1_000_000_000  # three decades


@router.post("/faults", status_code=201, summary="Start a fault", operation_id="startFault")
async def start_fault(request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Start a fault: `exchange`, `fault`, optionally `instrument` and `seconds`, and the fault's parameters."""
    sim = simulation_of(request)
    try:
        fault = _add_fault(sim, body)
    except ValueError as error:
        text = str(error).encode(errors="backslashreplace").decode()  # JSON may hold half of a surrogate pair
        raise HTTPException(422, text) from None
    await _apply_at_once(sim, fault)
    return _json_response(fault, 201)


@router.get("/faults", summary="Active faults, and all kinds", operation_id="listFaults")
async def list_faults(request: Request) -> Response:
    """List the active faults, and all kinds with their parameters."""
    kinds = {
        name: {"about": kind.about, "parameters": {key: each._asdict() for key, each in kind.parameters.items()}}
        for name, kind in FAULT_KINDS.items()
    }
    return _json_response({"active": simulation_of(request).faults.active(), "known": kinds})


@router.delete("/faults/{key}", status_code=204, summary="End a fault", operation_id="endFault")
async def end_fault(request: Request, key: int) -> None:
    if not simulation_of(request).faults.remove(key):
        raise HTTPException(404, f"no fault {key} is active")


@router.delete("/faults", status_code=204, summary="End all faults", operation_id="endFaults")
async def end_all_faults(request: Request) -> None:
    simulation_of(request).faults.remove()


@router.get("/ledger", summary="Messages that were sent", operation_id="readLedger")
async def read_ledger(
    request: Request,
    exchange: str | None = None,
    instrument: str | None = None,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> Response:
    """Trades, quotes and other values that were sent, oldest first, with totals since the start."""
    sim = simulation_of(request)
    pair = _parse_instrument(instrument)
    entries, more = sim.ledger.read(exchange, pair, after, limit)
    totals = [
        {"exchange": key[0], "instrument": key[1], "kind": key[2], "count": count}
        for key, count in sorted(sim.ledger.totals.items())
    ]
    open_lines = [
        {"exchange": line.exchange, "connection": line.connection_id, "since": line.opened_at} for line in sim.sockets
    ]
    body = {
        "entries": entries,
        "more": more,
        "totals": totals,
        "requests": sim.request_counts,
        "connections": open_lines,
    }
    return _json_response(body)


@router.get("/market", summary="The market behind all exchanges", operation_id="readMarket")
async def read_market(
    request: Request, at: Annotated[int | None, Query(ge=0, le=MAX_MARKET_TIME_MS)] = None
) -> Response:
    """Each asset's underlying price in USD, and each listing's last trade and quote; now, or at a time in ms."""
    sim = simulation_of(request)
    return _json_response(await asyncio.to_thread(_market_view, sim, sim.now() if at is None else at))


def _market_view(sim: Simulation, at: int) -> dict[str, Any]:
    assets = {name: sim.market.price_in(name, "USD", at) for name in ASSETS}
    rows = [_listing_view(sim, listing, at) for listing in (*BINANCE.values(), *DERIBIT.values())]
    return {"time": at, "usd": assets, "listings": rows}


def _add_fault(sim: Simulation, body: dict[str, Any]) -> Fault:
    for name in ("exchange", "fault", "instrument"):
        if not isinstance(body.get(name), str | None):
            raise ValueError(f"{name} must be a text")
    exchange, seconds = body.get("exchange"), body.get("seconds")
    if exchange not in FAULT_INSTRUMENTS:
        raise ValueError(f"exchange must be one of {', '.join(FAULT_INSTRUMENTS)}, not {exchange!r}")
    if seconds is not None and (
        isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_FAULT_SECONDS
    ):
        raise ValueError(f"seconds must be a positive number up to {MAX_FAULT_SECONDS}, or left out")
    pair = body.get("instrument")
    instrument = None if pair is None else str(Instrument.parse(pair))
    if instrument not in (None, *FAULT_INSTRUMENTS[exchange]):
        raise ValueError(f"{exchange} has no {instrument}: it has {', '.join(FAULT_INSTRUMENTS[exchange])}")
    parameters = {key: value for key, value in body.items() if key not in COMMON_FIELDS}
    return sim.faults.add(exchange, str(body.get("fault")), instrument, seconds, parameters)


async def _apply_at_once(sim: Simulation, fault: Fault) -> None:
    """Apply the faults that act once."""
    for line in [line for line in sim.sockets if line.exchange == fault.exchange]:
        if fault.fault in ("drop", "kill"):
            line.abort()
        if fault.fault == "shutdown":
            await line.shut_down(fault.parameters["after"])


def _listing_view(sim: Simulation, listing: SimulatedListing, at: int) -> dict[str, Any]:
    tape = sim.market.tape(listing)
    last, standing = tape.last_before(at + 1), quote(tape, at)
    values = {"last": listing.price(last.price), "trade": last.id, "time": last.time} if last else {}
    if standing:
        values |= {"bid": listing.price(standing.bid), "ask": listing.price(standing.ask)}
    return {"exchange": listing.exchange, "symbol": listing.symbol, "instrument": str(listing.instrument), **values}


def _parse_instrument(text: str | None) -> Instrument | None:
    try:
        return None if text is None else Instrument.parse(text)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


def _json_response(body: Any, status: int = 200) -> Response:
    return Response(ENCODER.encode(body), status, media_type="application/json")
