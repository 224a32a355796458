"""The exchanges: one file each, one value each."""

from services.core.errors import Misconfigured
from services.core.exchange import Exchange
from services.exchanges import binance, coingecko, deribit
from services.settings import Settings

EXCHANGES: dict[str, Exchange] = {
    exchange.name: exchange for exchange in (binance.EXCHANGE, deribit.EXCHANGE, coingecko.EXCHANGE)
}


def chosen(settings: Settings) -> tuple[Exchange, ...]:
    """The configured exchanges in their order, with their keys. Raises Misconfigured."""
    known = {**EXCHANGES, coingecko.NAME: coingecko.configured(settings)}
    if unknown := [name for name in settings.exchanges if name not in known]:
        raise Misconfigured(f"KURS_EXCHANGES: {unknown[0]!r} is not one of {', '.join(known)}")
    return tuple(known[name] for name in settings.exchanges)
