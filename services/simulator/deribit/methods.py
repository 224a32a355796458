"""Deribit's methods that need no connection, by name."""

from collections.abc import Callable
from typing import Any

from services.core.model import Instrument
from services.simulator.deribit import payloads, rest_history
from services.simulator.deribit.instruments import INSTRUMENTS, settlement_currency
from services.simulator.deribit.rpc_params import Parameters, RpcError, flag, integer, reject, tape_and_time, text
from services.simulator.fault_injection import InstrumentBody
from services.simulator.market.listings import INDICES
from services.simulator.market.order_book import OrderBook
from services.simulator.market.tape import Tape
from services.simulator.market.tape_quotes import TapeQuote, quote
from services.simulator.simulation import Simulation

VERSION = {"version": "1.2.26"}
LOGIN_SECONDS = 31_536_000
MAX_DEPTH = 10_000  # levels on a side
DERIBIT_CURRENCIES = ("BTC", "ETH", "SOL", "USDC", "USDT", "XRP")


def test(sim: Simulation, params: Parameters) -> Any:
    """Return the version, or the error that the client requests."""
    if params.get("expected_result") == "exception":
        raise RpcError(11094, "internal_server_error")
    return VERSION


def hello(sim: Simulation, params: Parameters) -> Any:
    """Accept the client's name and version."""
    text(params, "client_name")
    text(params, "client_version")
    return VERSION


def auth(sim: Simulation, params: Parameters) -> Any:
    """Accept any login: the simulator has no accounts, only channels that need a login."""
    if text(params, "grant_type") not in ("client_credentials", "client_signature", "refresh_token"):
        raise RpcError(13004, "invalid_credentials")
    token = f"{sim.now() + LOGIN_SECONDS * 1000}.simulated"
    login = {"token_type": "bearer", "expires_in": LOGIN_SECONDS, "scope": "connection mainaccount"}
    return {"access_token": token, "refresh_token": token, **login, "enabled_features": []}


def get_time(sim: Simulation, params: Parameters) -> Any:
    """Return the exchange's time."""
    return sim.now() + sum(int(fault.parameters["ms"]) for fault in sim.faults.at_exchange("deribit", "clock"))


def get_index_price(sim: Simulation, params: Parameters) -> Any:
    """Return the current index price."""
    name = text(params, "index_name")
    if name not in INDICES:
        reject("index_name", "wrong value")
    instrument = Instrument(*name.upper().split("_"))
    price = payloads.index_price(sim.market, name, sim.faults.visible_time("deribit", instrument, sim.now()))
    return InstrumentBody(instrument, {"index_price": price, "estimated_delivery_price": price})


def get_index_price_names(sim: Simulation, params: Parameters) -> Any:
    """Return the names of all indices."""
    if not flag(params, "extended"):
        return list(INDICES)
    extra = {"future_combo_creation_enabled": False, "option_combo_creation_enabled": False}
    return [{"name": name, **extra} for name in INDICES]


def get_currencies(sim: Simulation, params: Parameters) -> Any:
    """Return all currencies."""
    fees = {"withdrawal_fee": 0.0001, "min_withdrawal_fee": 0.0001, "min_confirmations": 1, "fee_precision": 4}
    return [{"currency": name, "currency_long": name, "coin_type": name, **fees} for name in DERIBIT_CURRENCIES]


def get_instruments(sim: Simulation, params: Parameters) -> Any:
    """Return instruments by currency and kind."""
    currency, kind = params.get("currency", "any"), params.get("kind")
    return [
        each
        for each in INSTRUMENTS.values()
        if currency in ("any", settlement_currency(each))
        and kind in (None, each["kind"])
        and not flag(params, "expired")
    ]


def get_instrument(sim: Simulation, params: Parameters) -> Any:
    """Return one instrument."""
    tape, _ = tape_and_time(sim, params)
    return INSTRUMENTS[tape.listing.symbol]


def ticker(sim: Simulation, params: Parameters) -> Any:
    """Return a ticker."""
    tape, now = tape_and_time(sim, params)
    return InstrumentBody(tape.listing.instrument, payloads.ticker(sim.market, tape, _quote(tape, now), now))


def get_order_book(sim: Simulation, params: Parameters) -> Any:
    """Return a ticker with an order book."""
    tape, now = tape_and_time(sim, params)
    top, depth = _quote(tape, now), min(max(integer(params, "depth", 5), 1), MAX_DEPTH)
    book = payloads.top_levels(OrderBook(tape, top), depth, now)
    return InstrumentBody(tape.listing.instrument, payloads.ticker(sim.market, tape, top, now) | book)


def get_book_summary_by_currency(sim: Simulation, params: Parameters) -> Any:
    """Return a row for each instrument of a currency, and of a kind if one is given."""
    currency, kind = text(params, "currency"), params.get("kind")
    wanted = [
        symbol
        for symbol, terms in INSTRUMENTS.items()
        if currency == settlement_currency(terms) and kind in (None, terms["kind"])
    ]
    return [row for symbol in wanted for row in get_book_summary_by_instrument(sim, {"instrument_name": symbol})]


def get_book_summary_by_instrument(sim: Simulation, params: Parameters) -> Any:
    """Return one row."""
    tape, now = tape_and_time(sim, params)
    return [InstrumentBody(tape.listing.instrument, payloads.book_summary(sim.market, tape, _quote(tape, now), now))]


METHODS: dict[str, Callable[[Simulation, Parameters], Any]] = {
    "public/test": test,
    "public/hello": hello,
    "public/auth": auth,
    "public/get_time": get_time,
    "public/status": lambda sim, params: {"locked": "false"},  # a string, like "true" and "partial"
    "public/get_index_price": get_index_price,
    "public/get_index_price_names": get_index_price_names,
    "public/get_supported_index_names": lambda sim, params: list(INDICES),
    "public/get_currencies": get_currencies,
    "public/get_instruments": get_instruments,
    "public/get_instrument": get_instrument,
    "public/ticker": ticker,
    "public/get_order_book": get_order_book,
    "public/get_book_summary_by_currency": get_book_summary_by_currency,
    "public/get_book_summary_by_instrument": get_book_summary_by_instrument,
    "public/get_last_trades_by_instrument": rest_history.last_trades,
    "public/get_last_trades_by_instrument_and_time": rest_history.last_trades,
    "public/get_tradingview_chart_data": rest_history.chart,
}


def _quote(tape: Tape, now: int) -> TapeQuote:
    standing = quote(tape, now)
    if standing is None:
        raise RpcError(13028, "temporarily_unavailable")
    return standing
