"""The exchanges: each file of this folder has one, as `EXCHANGE`.

A file whose exchange depends on settings also has `from_settings(settings) -> Exchange`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable

from services.core import conversion
from services.core.conversion import FIAT, ConversionRoute
from services.core.errors import Misconfigured
from services.core.exchange import Exchange
from services.core.model import Instrument
from services.settings import Settings

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
EXCHANGES: dict[str, Exchange] = {module.EXCHANGE.name: module.EXCHANGE for module in _MODULES}
FROM_SETTINGS: dict[str, Callable[[Settings], Exchange]] = {
    module.EXCHANGE.name: module.from_settings for module in _MODULES if hasattr(module, "from_settings")
}
REFERENCES = frozenset(name for name, exchange in EXCHANGES.items() if exchange.is_reference)


def configured_exchanges(settings: Settings) -> tuple[Exchange, ...]:
    """Return the configured exchanges in their order, with their keys. Raises Misconfigured."""
    if unknown := [name for name in settings.exchanges if name not in EXCHANGES]:
        raise Misconfigured(f"KURS_EXCHANGES: {unknown[0]!r} is not one of {', '.join(EXCHANGES)}")
    return tuple(_with_settings(name, settings) for name in settings.exchanges)


def _with_settings(name: str, settings: Settings) -> Exchange:
    return FROM_SETTINGS[name](settings) if name in FROM_SETTINGS else EXCHANGES[name]


def simulated_exchanges(exchanges: Iterable[Exchange], root: str) -> tuple[Exchange, ...]:
    """Return the exchanges as the simulator at `root` plays them. Raises Misconfigured."""
    exchanges = tuple(exchanges)
    if missing := [exchange.name for exchange in exchanges if not exchange.has_simulator]:
        played = ", ".join(name for name, exchange in EXCHANGES.items() if exchange.has_simulator)
        raise Misconfigured(
            f"KURS_EXCHANGES: {missing[0]} has no simulated market, only {played} have one; "
            "remove it from KURS_EXCHANGES, or set KURS_MARKET=live"
        )
    return tuple(exchange.simulated_at(root) for exchange in exchanges)


def route_table(settings: Settings) -> dict[Instrument, dict[str, ConversionRoute]]:
    """Return the routes of the configured exchanges: direction → exchange → legs."""
    exchanges = [EXCHANGES[name] for name in settings.exchanges]
    return conversion.route_table(exchanges, settings.directions, settings.assets)


def instruments_to_collect(name: str, settings: Settings) -> tuple[Instrument, ...]:
    """Return what is collected of an exchange: what any exchange's routes need, and its symbols."""
    names = dict.fromkeys((*(name for name in settings.exchanges if name in EXCHANGES), *EXCHANGES))
    exchanges = [EXCHANGES[name] for name in names]
    return conversion.instruments_to_collect(
        EXCHANGES[name], exchanges, settings.directions, settings.assets, settings.symbols
    )


def reject_unservable(settings: Settings) -> None:
    """Reject symbols and directions that no configured exchange can have, without a request. Raises Misconfigured."""
    for symbol in settings.symbols:
        collecting = [e.name for e in EXCHANGES.values() if e.instruments and symbol in e.instruments([symbol])]
        if symbol.contract and not set(collecting) & set(settings.exchanges):
            names = " and ".join(collecting) or "no exchange"
            raise Misconfigured(f"KURS_SYMBOLS: {symbol}: only {names} gives contracts; name it in KURS_EXCHANGES")
    by_id = [exchange for name in EXCHANGES if (exchange := _with_settings(name, settings)).asset_ids is not None]
    for direction, routes in route_table(settings).items():
        if not routes:
            raise Misconfigured(f"KURS_DIRECTIONS: no exchange has a way to {direction}")
        base, quote = (settings.assets.get(name, name) for name in direction[:2])
        if by_id and quote not in FIAT and not any(quote in (exchange.asset_ids or ()) for exchange in by_id):
            raise Misconfigured(
                f"KURS_DIRECTIONS: {direction}: {quote} is neither a currency nor a known asset; "
                f"{_id_advice(by_id[0], quote)} if there is one"
            )
        unknown_to = [exchange for exchange in by_id if base not in (exchange.asset_ids or ())]
        if routes.keys() <= {exchange.name for exchange in unknown_to}:
            first = next(exchange for exchange in unknown_to if exchange.name in routes)
            raise Misconfigured(
                f"KURS_DIRECTIONS: {direction}: only {first.name} could have it, and it knows assets by ids, not by "
                f"symbols; {_id_advice(first, base)}"
            )


def _id_advice(exchange: Exchange, asset: str) -> str:
    return f"write its {exchange.name} id into {exchange.settings_prefix}IDS ({asset}=id)"
