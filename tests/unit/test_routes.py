"""Conversion routes: every direction has one at each exchange, of open markets only."""

from hypothesis import given
from hypothesis import strategies as st

from services.core.conversion import FIAT, find_route
from services.core.model import Instrument
from services.exchanges import EXCHANGES, REFERENCES, instruments_to_collect, route_table
from services.settings import Settings

SETTINGS = Settings(_env_file=None)
REFERENCE = EXCHANGES["coingecko"]
assets = st.sampled_from(["BTC", "ETH", "USDT", "USDC", "USDTTRC", "SOL", "BNB"])


@given(st.sampled_from(sorted(EXCHANGES)), assets, assets | st.sampled_from(sorted(FIAT)))
def test_conversion_route_leads_from_base_to_quote(name: str, base: str, quote: str) -> None:
    legs = find_route(EXCHANGES[name], REFERENCE, Instrument(base, quote), SETTINGS.assets)
    base, quote = (SETTINGS.assets.get(name, name) for name in (base, quote))
    if legs is None:
        assert base == quote or name == "deribit"
        return
    at = base
    for leg in legs:
        start, end = leg.instrument[:2] if not leg.inverted else leg.instrument[1::-1]
        assert start == at
        at = end
        assert leg.exchange in {name} | REFERENCES
    assert at == quote


@given(st.sampled_from(sorted(EXCHANGES)), assets, assets | st.sampled_from(sorted(FIAT)))
def test_without_a_reference_only_own_legs_are_used(name: str, base: str, quote: str) -> None:
    direction = Instrument(base, quote)
    legs = find_route(EXCHANGES[name], None, direction, SETTINGS.assets)
    if legs is None:
        return
    assert {leg.exchange for leg in legs} == {name}
    assert legs == find_route(EXCHANGES[name], REFERENCE, direction, SETTINGS.assets)


def test_every_exchange_has_a_route_for_every_default_direction() -> None:
    for routes in route_table(SETTINGS).values():
        assert tuple(routes) == SETTINGS.exchanges
        for leg in (leg for legs in routes.values() for leg in legs):
            assert leg.exchange in REFERENCES or "RUB" not in leg.instrument


def test_instruments_of_routes_and_of_configured_symbols_are_collected() -> None:
    settings = Settings(_env_file=None, symbols="BTC-USDT,SOL-USDT")
    collected = {name: instruments_to_collect(name, settings) for name in EXCHANGES}
    assert {str(i) for i in collected["binance"]} == {"BTC-USDT", "ETH-USDT", "USDC-USDT", "SOL-USDT"}
    assert {str(i) for i in collected["deribit"]} == {"BTC-USD", "ETH-USD", "USDC-USDT", "BTC-USD-PERPETUAL"}
    assert len(collected["coingecko"]) == 8
