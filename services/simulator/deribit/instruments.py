"""Deribit's instruments and their terms."""

from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from services.simulator.market.listings import DAY, DERIBIT, INDICES, SimulatedListing


def index_of(listing: SimulatedListing) -> str:
    """Return the name of the index that an instrument follows."""
    return f"{listing.instrument.base}_{listing.instrument.quote}".lower()


def inverse(listing: SimulatedListing) -> bool:
    """Return whether sizes are in USD and settled in the base currency."""
    return listing.instrument.quote == "USD"


def perpetual(listing: SimulatedListing) -> bool:
    """Return whether it is a perpetual. All others are spot."""
    return bool(listing.instrument.contract)


def _terms(listing: SimulatedListing, number: int) -> dict[str, Any]:
    """Return the entry of `get_instruments`."""
    base, counter, _ = listing.instrument
    body = {
        "instrument_name": listing.symbol,
        "instrument_id": 100_000 + number,
        "kind": "future" if perpetual(listing) else "spot",
        "base_currency": base,
        "quote_currency": counter,
        "counter_currency": counter,
        "base_currency_uuid": _uuid(base),
        "quote_currency_uuid": _uuid(counter),
        "price_index": index_of(listing),
        "index_id": 1_000_000 + list(INDICES).index(index_of(listing)),
        "instrument_type": "reversed" if inverse(listing) else "linear",
        "underlying_type": "crypto",
        "lot_size": 1,
        "contract_size": listing.lot,
        "min_trade_amount": listing.lot,
        "tick_size": listing.tick,
        "tick_size_steps": [],
        "is_active": True,
        "state": "open",
        "creation_timestamp": listing.since * DAY,
        "expiration_timestamp": 32_503_708_800_000,
        "maker_commission": 0.0,
        "taker_commission": 0.0005,
        "block_trade_commission": 0.00025,
        "block_trade_min_trade_amount": 200_000,
        "block_trade_tick_size": Decimal("0.01"),
    }
    if perpetual(listing):
        settled = base if inverse(listing) else counter
        body |= {"settlement_currency": settled, "settlement_period": "perpetual", "product_group": settled}
        body |= {"future_type": body["instrument_type"], "max_leverage": 50, "max_non_default_leverage": 5.0}
        body |= {"max_liquidation_commission": 0.0075}
    return body


def _uuid(currency: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"urn:simulator:{currency}"))


def settlement_currency(terms: dict[str, Any]) -> str:
    """Return the currency that an instrument is listed under."""
    return str(terms.get("settlement_currency", terms["base_currency"]))


INSTRUMENTS = {symbol: _terms(listing, number) for number, (symbol, listing) in enumerate(DERIBIT.items())}
