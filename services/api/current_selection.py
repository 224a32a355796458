"""The exchange that this replica uses, by the rates that it has received."""

from collections.abc import Sequence

from services.core.errors import NothingFresh
from services.core.model import Instrument
from services.core.selection import ExchangeOrder, Selection, select_exchange
from services.exchanges import REFERENCES
from services.hub import PRICER, Hub


def select_current(
    hub: Hub, directions: Sequence[Instrument], order: Sequence[str], now: int, partial: bool = False
) -> Selection:
    """Select as `select_exchange` does, from the newest rates. `now` is monotonic.

    Raises NothingFresh, which names a clock if that is the reason.
    """
    try:
        return select_exchange(hub.rates, directions, ExchangeOrder(order, REFERENCES), now, partial)
    except NothingFresh as nothing:
        fault = hub.clock_fault(PRICER)
        raise NothingFresh(f"{nothing}; {fault}") if fault else nothing from None
