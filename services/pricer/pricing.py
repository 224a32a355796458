"""The rates as they stand, and what of them is news."""

import asyncio
import logging
from collections.abc import Mapping

from services.core.choice import chosen
from services.core.model import Choice, Instrument, Rate, State, Tick
from services.core.rates import Book
from services.core.routes import Route
from services.ports import Deps

AGAIN_MS = 1_000  # a rate that does not change is told again this often: its age does change
log = logging.getLogger(__name__)


class Pricing:
    """The rates as they stand: those that something touched are made anew at once, all of them now and then."""

    def __init__(self, deps: Deps, book: Book, choice: Choice | None) -> None:
        self.deps, self.book, self.choice = deps, book, choice
        self.unkept: dict[str, Rate | State | Choice] = {}  # the newest of each that the cache has not
        self.some = asyncio.Event()  # something was touched
        self._touched: set[Instrument] = set()
        self._uses = _uses(book.routes)
        self._rates: dict[Instrument, Rate] = {}
        self._told: dict[Instrument, Rate] = {}

    def see(self, message: Tick | State) -> None:
        """Take in a quote or a collector's report."""
        self.book.see(message)
        if isinstance(message, State):
            self.unkept[message.exchange] = message
        elif touched := self._uses.get((message.exchange, message.instrument)):
            self._touched |= touched
            self.some.set()

    def news(self, now: int, everything: bool) -> list[Rate | Choice]:
        """What is to be told: rates that changed or were told long ago, and the choice."""
        asked, everything = self.deps.settings.directions, everything or not self._rates
        made = {direction: self.book.rate(direction, now) for direction in (asked if everything else self._touched)}
        self._rates |= made
        self._touched.clear()
        rates = [rate for direction, rate in made.items() if _worth_telling(self._told.get(direction), rate)]
        self._told |= {rate.direction: rate for rate in rates}
        self.unkept |= {str(rate.direction): rate for rate in rates}
        return [*rates, *self._chosen(now)] if everything else [*rates]

    def _chosen(self, now: int) -> list[Choice]:
        """The choice, if it is to be told. It looks at all directions, so that it is made only when all of them are."""
        asked, order = self.deps.settings.directions, self.deps.settings.exchanges
        new = chosen(self.choice, {str(d): rate for d, rate in self._rates.items()}, asked, order, now)
        if changed := self.choice is None or new.exchange != self.choice.exchange:
            log.warning("in use: %s (%s)", new.exchange or "no exchange", new.reason)
        if self.choice is None or changed or now - self.choice.time >= AGAIN_MS:
            self.choice = self.unkept[""] = new
            return [new]
        return []


def _uses(table: Mapping[Instrument, Mapping[str, Route]]) -> dict[tuple[str, Instrument], set[Instrument]]:
    """Which directions an exchange's instrument is a leg of."""
    found = dict[tuple[str, Instrument], set[Instrument]]()
    for direction, ways in table.items():
        for hop in (hop for route in ways.values() for hop in route):
            found.setdefault((hop.exchange, hop.instrument), set()).add(direction)
    return found


def _worth_telling(told: Rate | None, rate: Rate) -> bool:
    return told is None or told.offers != rate.offers or rate.time - told.time >= AGAIN_MS
