"""Symbols by the names that people and other programs use for them."""

from collections.abc import Iterable, Sequence

from services.core.errors import UnknownName, unknown_name
from services.core.model import Instrument


def normalize(name: str) -> str:
    """What of a name counts: BTC-USDT, BTC/USDT, btc_usdt and BTCUSDT are one."""
    return "".join(filter(str.isalnum, name)).upper()


def split_exchange(name: str) -> tuple[str, str]:
    """The exchange and the symbol in `EXCHANGE:BTCUSDT`; without an exchange its name is ""."""
    exchange, _, symbol = name.rpartition(":")
    return exchange.strip().lower(), symbol.strip()


def find_symbol(name: str, exchange: str, listed: Iterable[tuple[str, Instrument]]) -> tuple[str, Instrument]:
    """The first of the known symbols with this name, at `exchange` unless that is "". Raises UnknownName."""
    symbols = list(dict.fromkeys(listed))
    wanted = normalize(name)
    if found := [each for each in symbols if exchange in ("", each[0]) and normalize(str(each[1])) == wanted]:
        return found[0]
    raise unknown_symbol(name, exchange, symbols)


def unknown_symbol(name: str, exchange: str, symbols: Sequence[tuple[str, Instrument]]) -> UnknownName:
    """The error for a symbol that does not exist, at `exchange` unless that is ""."""
    exchanges = list(dict.fromkeys(each for each, _ in symbols))
    if exchange and exchange not in exchanges:
        return unknown_name("exchange", exchange, exchanges)
    names = dict.fromkeys(str(instrument) for each, instrument in symbols if exchange in ("", each))
    return unknown_name("symbol", name.upper(), list(names))
