"""The exchanges: one file each, one value each."""

from services.core.conversion import CONTRACTS, FIAT, route_table
from services.core.errors import Misconfigured
from services.core.exchange import Exchange
from services.exchanges import binance, coingecko, deribit
from services.settings import Settings

EXCHANGES: dict[str, Exchange] = {
    exchange.name: exchange for exchange in (binance.EXCHANGE, deribit.EXCHANGE, coingecko.EXCHANGE)
}


def configured_exchanges(settings: Settings) -> tuple[Exchange, ...]:
    """The configured exchanges in their order, with their keys. Raises Misconfigured."""
    known = {**EXCHANGES, coingecko.NAME: coingecko.from_settings(settings)}
    if unknown := [name for name in settings.exchanges if name not in known]:
        raise Misconfigured(f"KURS_EXCHANGES: {unknown[0]!r} is not one of {', '.join(known)}")
    return tuple(known[name] for name in settings.exchanges)


def reject_unservable(settings: Settings) -> None:
    """What no exchange can give, as far as is known before any is asked. Raises Misconfigured."""
    for symbol in settings.symbols:
        if symbol.contract and CONTRACTS not in settings.exchanges:
            raise Misconfigured(f"KURS_SYMBOLS: {symbol}: only {CONTRACTS} gives contracts; name it in KURS_EXCHANGES")
    ids = coingecko.coin_ids(settings)
    for direction, ways in route_table(settings.exchanges, settings.directions, settings.assets).items():
        if not ways:
            raise Misconfigured(f"KURS_DIRECTIONS: no exchange has a way to {direction}")
        base, quote = (settings.assets.get(name, name) for name in direction[:2])
        if quote not in FIAT and quote not in ids:
            raise Misconfigured(
                f"KURS_DIRECTIONS: {direction}: {quote} is neither a currency nor a known asset; "
                f"write its CoinGecko id into KURS_COINGECKO_IDS ({quote}=id) if there is one"
            )
        if ways.keys() == {coingecko.NAME} and base not in ids:
            raise Misconfigured(
                f"KURS_DIRECTIONS: {direction}: only CoinGecko could give it, which knows ids and no symbols; "
                f"write that of {base} into KURS_COINGECKO_IDS ({base}=id)"
            )
