"""Symbols by the names that users and other programs have for them."""

from collections.abc import Iterable, Sequence

from services.core.errors import UnknownName, unknown_name
from services.core.model import Instrument


def normalize(name: str) -> str:
    """Return the common form of a name: BTC-USDT, BTC/USDT, btc_usdt and BTCUSDT are one."""
    return "".join(filter(str.isalnum, name)).upper()


def split_exchange(name: str) -> tuple[str, str]:
    """Return exchange and symbol of `EXCHANGE:BTCUSDT`; without an exchange its name is ""."""
    exchange, _, symbol = name.rpartition(":")
    return exchange.strip().lower(), symbol.strip()


def find_symbol(name: str, exchange: str, listed: Iterable[tuple[str, Instrument]]) -> tuple[str, Instrument]:
    """Return the first listed symbol with this name, at `exchange` unless that is "". Raises UnknownName."""
    symbols = list(dict.fromkeys(listed))
    normalized = normalize(name)
    for symbol_exchange, instrument in symbols:
        if exchange in ("", symbol_exchange) and normalize(str(instrument)) == normalized:
            return symbol_exchange, instrument
    raise unknown_symbol(name, exchange, symbols)


def unknown_symbol(name: str, exchange: str, symbols: Sequence[tuple[str, Instrument]]) -> UnknownName:
    """Return the error for a symbol that does not exist, at `exchange` unless that is ""."""
    exchanges = list(dict.fromkeys(each for each, _ in symbols))
    if exchange and exchange not in exchanges:
        return unknown_name("exchange", exchange, exchanges)
    names = dict.fromkeys(str(instrument) for each, instrument in symbols if exchange in ("", each))
    return unknown_name("symbol", name.upper(), list(names))
