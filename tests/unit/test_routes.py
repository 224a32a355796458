"""Routes: every direction has a way, none of them through what is dead."""

from hypothesis import given
from hypothesis import strategies as st

from services.core.conversion import FIAT, REFERENCE, ROUTES, find_route, instruments_to_collect, route_table
from services.core.model import Instrument
from services.settings import Settings

SETTINGS = Settings(_env_file=None)
assets = st.sampled_from(["BTC", "ETH", "USDT", "USDC", "USDTTRC", "SOL", "BNB"])


@given(st.sampled_from(sorted(ROUTES)), assets, assets | st.sampled_from(sorted(FIAT)))
def test_a_route_leads_from_base_to_quote(exchange: str, base: str, quote: str) -> None:
    legs = find_route(exchange, Instrument(base, quote), SETTINGS.assets)
    base, quote = (SETTINGS.assets.get(name, name) for name in (base, quote))
    if legs is None:
        assert base == quote or exchange == "deribit"
        return
    at = base
    for hop in legs:
        start, end = hop.instrument[:2] if not hop.inverted else hop.instrument[1::-1]
        assert start == at
        at = end
        assert hop.exchange in (exchange, REFERENCE)
    assert at == quote


def test_every_exchange_gives_every_default_direction_and_none_takes_rubles_from_binance() -> None:
    for ways in route_table(SETTINGS.exchanges, SETTINGS.directions, SETTINGS.assets).values():
        assert tuple(ways) == SETTINGS.exchanges
        for hop in (hop for legs in ways.values() for hop in legs):
            assert hop.exchange == REFERENCE or "RUB" not in hop.instrument


def test_what_is_collected_is_what_the_routes_need_and_the_symbols() -> None:
    symbols = (Instrument("BTC", "USDT"), Instrument("SOL", "USDT"))
    wanted = {name: instruments_to_collect(name, SETTINGS.directions, SETTINGS.assets, symbols) for name in ROUTES}
    assert {str(i) for i in wanted["binance"]} == {"BTC-USDT", "ETH-USDT", "USDC-USDT", "SOL-USDT"}
    assert {str(i) for i in wanted["deribit"]} == {"BTC-USD", "ETH-USD", "USDC-USDT", "BTC-USD-PERPETUAL"}
    assert len(wanted["coingecko"]) == 8
