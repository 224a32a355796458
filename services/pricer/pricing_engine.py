"""The rates as they stand, and what of them is news."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from services.core.clocks import WallClockOffset
from services.core.conversion import ConversionRoute
from services.core.model import ActiveExchange, ExchangeStatus, Instrument, Quote, Rate
from services.core.rates import RateCalculator
from services.core.selection import ExchangeOrder, update_active
from services.core.sender_clocks import SenderClocks, shift_stamps
from services.exchanges import REFERENCES
from services.ports import Deps

REPUBLISH_MS = 1_000  # a rate that does not change is told again this often: its age does change
log = logging.getLogger(__name__)


class PricingEngine:
    """The rates as they stand: those that something touched are made anew at once, all of them now and then.

    In here all times are monotonic: stamps of what comes are turned into it, and back in what is sent.
    """

    def __init__(self, deps: Deps, calculator: RateCalculator) -> None:
        self.deps, self.calculator = deps, calculator
        self.uncached: dict[
            str, Rate | ExchangeStatus | ActiveExchange
        ] = {}  # the newest of each that the cache has not
        self.dirty = asyncio.Event()  # something was touched
        self._active: ActiveExchange | None = None
        self._senders, self._stamps = SenderClocks(), WallClockOffset(deps.clock.now(), deps.clock.monotonic())
        self._dirty_directions: set[Instrument] = set()
        self._reported_untraded: set[Instrument] = set()  # reported
        self._directions_by_leg = _index_directions(calculator.routes)
        self._rates: dict[Instrument, Rate] = {}
        self._published: dict[Instrument, Rate] = {}

    def restore(self, rates: Sequence[Rate], choice: ActiveExchange | None) -> None:
        """Begin with what was kept. Of a rate from the future nobody knows how old it is."""
        monotonic, wall = self._now()
        for rate in rates:
            by = self._senders.value_to_monotonic("the kept rates", rate.time, wall, monotonic)
            if by is not None:
                self.calculator.restore([rate], by)
        if choice:
            self._active = shift_stamps(choice, monotonic - max(wall, choice.time))

    def apply(self, message: Quote | ExchangeStatus) -> None:
        """Take in a quote or a collector's report that came just now. One from the future is no news of now."""
        monotonic, wall = self._now()
        if isinstance(message, ExchangeStatus):
            by = self._senders.to_monotonic(message.exchange, message.time, wall, monotonic)
        else:
            by = self._senders.value_to_monotonic(message.exchange, message.received, wall, monotonic)
        if by is None:
            return
        self.calculator.apply(message, by)
        if isinstance(message, ExchangeStatus):
            self.uncached[message.exchange] = message
            self._warn_untraded()
        elif touched := self._directions_by_leg.get((message.exchange, message.instrument)):
            self._dirty_directions |= touched
            self.dirty.set()

    def _warn_untraded(self) -> None:
        """Log a direction when it turns out that no exchange can give it: only their listings say so."""
        for direction in self.deps.settings.directions:
            reason = self.calculator.untraded_reason(direction)
            if reason and direction not in self._reported_untraded:
                log.warning("%s cannot be given: %s; is it misspelt in KURS_DIRECTIONS?", direction, reason)
            (self._reported_untraded.add if reason else self._reported_untraded.discard)(direction)

    def updates(self, everything: bool) -> list[Rate | ActiveExchange]:
        """What is to be told: rates that changed or were told long ago, and the choice."""
        now, wall = self._now()
        self._stamps.update(wall, now)
        by = self._stamps.offset
        asked, everything = self.deps.settings.directions, everything or not self._rates
        if everything:
            faults = {
                exchange: self._senders.describe_fault(exchange, now) for exchange in self.deps.settings.exchanges
            }
            self.calculator.clock_faults = {exchange: fault for exchange, fault in faults.items() if fault}
        made = {
            direction: self.calculator.rate(direction, now)
            for direction in (asked if everything else self._dirty_directions)
        }
        self._rates |= made
        self._dirty_directions.clear()
        told = {d: rate for d, rate in made.items() if _should_publish(self._published.get(d), rate)}
        self._published |= told
        news: list[Rate | ActiveExchange] = [shift_stamps(rate, by) for rate in told.values()]
        if everything and (choice := self._update_active(now)):
            news.append(shift_stamps(choice, by))
        self.uncached |= {str(each.direction) if isinstance(each, Rate) else "": each for each in news}
        return news

    def _update_active(self, now: int) -> ActiveExchange | None:
        """The choice, if it is to be told. It looks at all directions, so that it is made only when all of them are."""
        settings, known = self.deps.settings, self._active
        order = ExchangeOrder(settings.exchanges, REFERENCES)
        rates = {str(direction): rate for direction, rate in self._rates.items()}
        new = update_active(known, rates, settings.directions, order, now)
        if changed := known is None or new.exchange != known.exchange:
            log.warning("in use: %s (%s)", new.exchange or "no exchange", new.reason)
        if known is None or changed or now - known.time >= REPUBLISH_MS:
            self._active = new
            return new
        return None

    def _now(self) -> tuple[int, int]:
        """Monotonic and wall time, in this order: if we are stopped in between, what comes seems older, not newer."""
        return self.deps.clock.monotonic(), self.deps.clock.now()


def _index_directions(
    table: Mapping[Instrument, Mapping[str, ConversionRoute]],
) -> dict[tuple[str, Instrument], set[Instrument]]:
    """Which directions an exchange's instrument is a leg of."""
    found = dict[tuple[str, Instrument], set[Instrument]]()
    for direction, ways in table.items():
        for hop in (hop for route in ways.values() for hop in route):
            found.setdefault((hop.exchange, hop.instrument), set()).add(direction)
    return found


def _should_publish(told: Rate | None, rate: Rate) -> bool:
    return told is None or told.candidates != rate.candidates or rate.time - told.time >= REPUBLISH_MS
