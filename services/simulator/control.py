"""The simulator's own addresses: faults, the ledger and the market behind all exchanges."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request, Response

from services.core.model import Instrument
from services.settings import Settings
from services.simulator.fault_injection import ENCODER
from services.simulator.faults import KINDS, Fault
from services.simulator.market.listings import ASSETS, BINANCE, COINS, CURRENCIES, DERIBIT, INDICES, Listing
from services.simulator.market.tape_quotes import quote
from services.simulator.simulation import Simulation, simulation
from services.web import Hosts
from services.web.client_address import is_loopback

LAST = 2_524_608_000_000  # 2050: much later the market's arithmetic has no room
PASSED_ON = ("forwarded", "x-forwarded-for", "x-real-ip")  # the request is another's: they close, but never open


async def local(request: Request) -> None:
    """Let in whoever is on this machine, and others where the operator opened it. Raises HTTPException.

    A browser on this machine brings pages of others with it: the name that they ask for must be ours, and they too.
    """
    peer = request.client.host if request.client else "an unknown address"
    settings: Settings = request.app.state.deps.settings
    if settings.simulator_control == "all":
        return
    passed_on = any(name in request.headers for name in PASSED_ON)
    if passed_on or not is_loopback(peer):
        whose = f"comes through a proxy at {peer}" if passed_on else f"comes from {peer}"
        raise HTTPException(
            403,
            f"the simulator's control is open to its own machine alone, and this request {whose}; "
            "KURS_SIMULATOR_CONTROL=all opens it to whoever reaches this port",
        )
    hosts = Hosts(settings.allowed_hosts, settings.host)
    if not hosts.owns(request.headers.get("host", "")):
        raise HTTPException(
            403,
            "the simulator's control answers to localhost, to addresses and to the names in KURS_ALLOWED_HOSTS, and "
            "this request asks for another Host",
        )
    if not hosts.admits_page(dict(request.headers.raw)):
        raise HTTPException(403, "the simulator's control is not open to pages of others: send no Origin")


router = APIRouter(prefix="/simulator", tags=["simulator"], dependencies=[Depends(local)])

INSTRUMENTS = {
    "binance": [str(listing.instrument) for listing in BINANCE.values()],
    "deribit": [
        *(str(listing.instrument) for listing in DERIBIT.values()),
        *(name.upper().replace("_", "-") for name in INDICES),
    ],
    "coingecko": [f"{asset}-{currency.upper()}" for asset, _ in COINS.values() for currency in CURRENCIES],
}
OWN = ("exchange", "fault", "instrument", "seconds")
LONGEST = 1_000_000_000  # seconds: three decades


@router.post("/faults", status_code=201, summary="Start a fault", operation_id="startFault")
async def start(request: Request, asked: Annotated[dict[str, Any], Body()]) -> Response:
    """`exchange`, `fault`, optionally `instrument` and `seconds`, and the fault's own parameters."""
    sim = simulation(request)
    try:
        fault = _add(sim, asked)
    except ValueError as error:
        text = str(error).encode(errors="backslashreplace").decode()  # JSON may bring halves of a character
        raise HTTPException(422, text) from None
    await _happen(sim, fault)
    return _json(fault, 201)


@router.get("/faults", summary="Active faults, and all there are", operation_id="listFaults")
async def faults(request: Request) -> Response:
    """What is active, and what may be asked for with which parameters."""
    known = {
        name: {"about": kind.about, "parameters": {key: each._asdict() for key, each in kind.parameters.items()}}
        for name, kind in KINDS.items()
    }
    return _json({"active": simulation(request).faults.active(), "known": known})


@router.delete("/faults/{key}", status_code=204, summary="End a fault", operation_id="endFault")
async def end(request: Request, key: int) -> None:
    """End one fault."""
    if not simulation(request).faults.remove(key):
        raise HTTPException(404, f"no fault {key} is active")


@router.delete("/faults", status_code=204, summary="End all faults", operation_id="endFaults")
async def end_all(request: Request) -> None:
    """End all faults."""
    simulation(request).faults.remove()


@router.get("/ledger", summary="What was sent", operation_id="readLedger")
async def ledger(
    request: Request,
    exchange: str | None = None,
    instrument: str | None = None,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> Response:
    """Trades, quotes and other values that went out, oldest first, with totals since the start."""
    sim = simulation(request)
    pair = _instrument(instrument)
    entries, more = sim.ledger.read(exchange, pair, after, limit)
    totals = [
        {"exchange": key[0], "instrument": key[1], "kind": key[2], "count": count}
        for key, count in sorted(sim.ledger.totals.items())
    ]
    open_lines = [{"exchange": line.exchange, "connection": line.number, "since": line.opened} for line in sim.lines]
    body = {"entries": entries, "more": more, "totals": totals, "requests": sim.requests, "connections": open_lines}
    return _json(body)


@router.get("/market", summary="The market behind all exchanges", operation_id="readMarket")
async def market(request: Request, at: Annotated[int | None, Query(ge=0, le=LAST)] = None) -> Response:
    """Each asset's underlying price in USD, and each listing's last trade and quote; now, or at a time in ms."""
    sim = simulation(request)
    return _json(await asyncio.to_thread(_market, sim, sim.now() if at is None else at))


def _market(sim: Simulation, at: int) -> dict[str, Any]:
    assets = {name: sim.market.worth(name, "USD", at) for name in ASSETS}
    rows = [_listing(sim, listing, at) for listing in (*BINANCE.values(), *DERIBIT.values())]
    return {"time": at, "usd": assets, "listings": rows}


def _add(sim: Simulation, asked: dict[str, Any]) -> Fault:
    for name in ("exchange", "fault", "instrument"):
        if not isinstance(asked.get(name), str | None):
            raise ValueError(f"{name} must be a text")
    exchange, seconds = asked.get("exchange"), asked.get("seconds")
    if exchange not in INSTRUMENTS:
        raise ValueError(f"exchange must be one of {', '.join(INSTRUMENTS)}, not {exchange!r}")
    if seconds is not None and (
        isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST
    ):
        raise ValueError(f"seconds must be a positive number up to {LONGEST}, or left out")
    pair = asked.get("instrument")
    instrument = None if pair is None else str(Instrument.parse(pair))
    if instrument not in (None, *INSTRUMENTS[exchange]):
        raise ValueError(f"{exchange} has no {instrument}: it has {', '.join(INSTRUMENTS[exchange])}")
    given = {key: value for key, value in asked.items() if key not in OWN}
    return sim.faults.add(exchange, str(asked.get("fault")), instrument, seconds, given)


async def _happen(sim: Simulation, fault: Fault) -> None:
    """What a fault does at once."""
    for line in [line for line in sim.lines if line.exchange == fault.exchange]:
        if fault.fault in ("drop", "kill"):
            line.cut()
        if fault.fault == "shutdown":
            await line.shut_down(fault.parameters["after"])


def _listing(sim: Simulation, listing: Listing, at: int) -> dict[str, Any]:
    tape = sim.market.tape(listing)
    last, standing = tape.before(at + 1), quote(tape, at)
    values = {"last": listing.price(last.price), "trade": last.id, "time": last.time} if last else {}
    if standing:
        values |= {"bid": listing.price(standing.bid), "ask": listing.price(standing.ask)}
    return {"exchange": listing.exchange, "symbol": listing.symbol, "instrument": str(listing.instrument), **values}


def _instrument(text: str | None) -> Instrument | None:
    try:
        return None if text is None else Instrument.parse(text)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


def _json(body: Any, status: int = 200) -> Response:
    return Response(ENCODER.encode(body), status, media_type="application/json")
