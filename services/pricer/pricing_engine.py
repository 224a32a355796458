"""The rates as they stand, and what of them is news."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from services.core.clocks import Stamps
from services.core.conversion import Route
from services.core.model import Choice, Instrument, Rate, State, Tick
from services.core.rates import Book
from services.core.selection import chosen
from services.core.sender_clocks import SenderClocks, shifted
from services.ports import Deps

AGAIN_MS = 1_000  # a rate that does not change is told again this often: its age does change
log = logging.getLogger(__name__)


class Pricing:
    """The rates as they stand: those that something touched are made anew at once, all of them now and then.

    In here all times are monotonic: stamps of what comes are turned into it, and back in what is sent.
    """

    def __init__(self, deps: Deps, book: Book) -> None:
        self.deps, self.book = deps, book
        self.unkept: dict[str, Rate | State | Choice] = {}  # the newest of each that the cache has not
        self.some = asyncio.Event()  # something was touched
        self._choice: Choice | None = None
        self._senders, self._stamps = SenderClocks(), Stamps(deps.clock.now(), deps.clock.monotonic())
        self._touched: set[Instrument] = set()
        self._untraded: set[Instrument] = set()  # reported
        self._uses = _uses(book.routes)
        self._rates: dict[Instrument, Rate] = {}
        self._told: dict[Instrument, Rate] = {}

    def restore(self, rates: Sequence[Rate], choice: Choice | None) -> None:
        """Begin with what was kept. Of a rate from the future nobody knows how old it is."""
        monotonic, wall = self._now()
        for rate in rates:
            by = self._senders.offset_of_value("the kept rates", rate.time, wall, monotonic)
            if by is not None:
                self.book.recall([rate], by)
        if choice:
            self._choice = shifted(choice, monotonic - max(wall, choice.time))

    def see(self, message: Tick | State) -> None:
        """Take in a quote or a collector's report that came just now. One from the future is no news of now."""
        monotonic, wall = self._now()
        if isinstance(message, State):
            by = self._senders.offset(message.exchange, message.time, wall, monotonic)
        else:
            by = self._senders.offset_of_value(message.exchange, message.received, wall, monotonic)
        if by is None:
            return
        self.book.see(message, by)
        if isinstance(message, State):
            self.unkept[message.exchange] = message
            self._report_untraded()
        elif touched := self._uses.get((message.exchange, message.instrument)):
            self._touched |= touched
            self.some.set()

    def _report_untraded(self) -> None:
        """Log a direction when it turns out that no exchange can give it: only their listings say so."""
        for direction in self.deps.settings.directions:
            reason = self.book.untraded(direction)
            if reason and direction not in self._untraded:
                log.warning("%s cannot be given: %s; is it misspelt in KURS_DIRECTIONS?", direction, reason)
            (self._untraded.add if reason else self._untraded.discard)(direction)

    def news(self, everything: bool) -> list[Rate | Choice]:
        """What is to be told: rates that changed or were told long ago, and the choice."""
        now, wall = self._now()
        self._stamps.look(wall, now)
        by = self._stamps.offset
        asked, everything = self.deps.settings.directions, everything or not self._rates
        if everything:
            faults = {exchange: self._senders.fault(exchange, now) for exchange in self.deps.settings.exchanges}
            self.book.clock_faults = {exchange: fault for exchange, fault in faults.items() if fault}
        made = {direction: self.book.rate(direction, now) for direction in (asked if everything else self._touched)}
        self._rates |= made
        self._touched.clear()
        told = {d: rate for d, rate in made.items() if _worth_telling(self._told.get(d), rate)}
        self._told |= told
        news: list[Rate | Choice] = [shifted(rate, by) for rate in told.values()]
        if everything and (choice := self._chosen(now)):
            news.append(shifted(choice, by))
        self.unkept |= {str(each.direction) if isinstance(each, Rate) else "": each for each in news}
        return news

    def _chosen(self, now: int) -> Choice | None:
        """The choice, if it is to be told. It looks at all directions, so that it is made only when all of them are."""
        asked, order, known = self.deps.settings.directions, self.deps.settings.exchanges, self._choice
        new = chosen(known, {str(d): rate for d, rate in self._rates.items()}, asked, order, now)
        if changed := known is None or new.exchange != known.exchange:
            log.warning("in use: %s (%s)", new.exchange or "no exchange", new.reason)
        if known is None or changed or now - known.time >= AGAIN_MS:
            self._choice = new
            return new
        return None

    def _now(self) -> tuple[int, int]:
        """Monotonic and wall time, in this order: if we are stopped in between, what comes seems older, not newer."""
        return self.deps.clock.monotonic(), self.deps.clock.now()


def _uses(table: Mapping[Instrument, Mapping[str, Route]]) -> dict[tuple[str, Instrument], set[Instrument]]:
    """Which directions an exchange's instrument is a leg of."""
    found = dict[tuple[str, Instrument], set[Instrument]]()
    for direction, ways in table.items():
        for hop in (hop for route in ways.values() for hop in route):
            found.setdefault((hop.exchange, hop.instrument), set()).add(direction)
    return found


def _worth_telling(told: Rate | None, rate: Rate) -> bool:
    return told is None or told.offers != rate.offers or rate.time - told.time >= AGAIN_MS
