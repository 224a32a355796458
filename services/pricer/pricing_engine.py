"""Incremental computation of rates, and selection of those to publish."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from services.core.clocks import WallClockOffset
from services.core.conversion import ConversionRoute
from services.core.model import ActiveExchange, ExchangeStatus, Instrument, Quote, Rate
from services.core.rates import RateCalculator
from services.core.selection import ExchangeOrder, summarize_rejections, update_active
from services.core.sender_clocks import SenderClocks, shift_stamps
from services.exchanges import REFERENCES
from services.ports import Clock
from services.settings import Settings

REPUBLISH_MS = 1_000  # an unchanged rate is published again this often, because its age changes
log = logging.getLogger(__name__)


class PricingEngine:
    """The current rates. Those with a new quote are computed at once, all of them at intervals.

    Times in here are monotonic: stamps of received messages are converted, and converted back in published ones.
    """

    def __init__(self, settings: Settings, clock: Clock, calculator: RateCalculator) -> None:
        self._settings, self._clock, self.calculator = settings, clock, calculator
        # by key, the newest of each that is not cached yet
        self.uncached: dict[str, Rate | ExchangeStatus | ActiveExchange] = {}
        self.dirty = asyncio.Event()  # set while a direction has a new quote
        self._active: ActiveExchange | None = None
        self._senders, self._stamps = SenderClocks(), WallClockOffset(clock.now(), clock.monotonic())
        self._dirty_directions: set[Instrument] = set()
        self._reported_untraded: set[Instrument] = set()
        self._directions_by_leg = _index_directions(calculator.routes)
        self._rates: dict[Instrument, Rate] = {}
        self._published: dict[Instrument, Rate] = {}

    def restore(self, rates: Sequence[Rate], active: ActiveExchange | None) -> None:
        """Start with stored rates, without those from the future, whose age is unknown."""
        monotonic, wall = self._now()
        for rate in rates:
            shift = self._senders.value_to_monotonic("the stored rates", rate.time, wall, monotonic)
            if shift is not None:
                self.calculator.restore([rate], shift)
        if active:
            self._active = shift_stamps(active, monotonic - max(wall, active.time))

    def apply(self, message: Quote | ExchangeStatus) -> None:
        """Apply a quote or an exchange status that has just been received. One from the future is ignored."""
        monotonic, wall = self._now()
        if isinstance(message, ExchangeStatus):
            shift = self._senders.to_monotonic(message.exchange, message.time, wall, monotonic)
        else:
            shift = self._senders.value_to_monotonic(message.exchange, message.received, wall, monotonic)
        if shift is None:
            return
        self.calculator.apply(message, shift)
        if isinstance(message, ExchangeStatus):
            self.uncached[message.exchange] = message
            self._warn_untraded()
        elif directions := self._directions_by_leg.get((message.exchange, message.instrument)):
            self._dirty_directions |= directions
            self.dirty.set()

    def _warn_untraded(self) -> None:
        """Warn of a direction when the exchanges' instruments show that none of them can price it."""
        for direction in self._settings.directions:
            reason = self.calculator.untraded_reason(direction)
            if reason and direction not in self._reported_untraded:
                log.warning("%s: no rate: %s: check the spelling in KURS_DIRECTIONS", direction, reason)
            (self._reported_untraded.add if reason else self._reported_untraded.discard)(direction)

    def updates(self, everything: bool) -> list[Rate | ActiveExchange]:
        """Return what to publish: rates that changed or were published long ago, and the active exchange."""
        now, wall = self._now()
        self._stamps.update(wall, now)
        shift = self._stamps.offset
        directions, everything = self._settings.directions, everything or not self._rates
        if everything:
            faults = {exchange: self._senders.describe_fault(exchange, now) for exchange in self._settings.exchanges}
            self.calculator.clock_faults = {exchange: fault for exchange, fault in faults.items() if fault}
        computed = {
            direction: self.calculator.rate(direction, now)
            for direction in (directions if everything else self._dirty_directions)
        }
        self._rates |= computed
        self._dirty_directions.clear()
        changed_rates = {d: rate for d, rate in computed.items() if _should_publish(self._published.get(d), rate)}
        self._published |= changed_rates
        updates: list[Rate | ActiveExchange] = [shift_stamps(rate, shift) for rate in changed_rates.values()]
        if everything and (active := self._update_active(now)):
            updates.append(shift_stamps(active, shift))
        self.uncached |= {str(update.direction) if isinstance(update, Rate) else "": update for update in updates}
        return updates

    def _update_active(self, now: int) -> ActiveExchange | None:
        """Update the active exchange from the rates of all directions. Return it if it is to be published."""
        settings, previous = self._settings, self._active
        order = ExchangeOrder(settings.exchanges, REFERENCES)
        rates = {str(direction): rate for direction, rate in self._rates.items()}
        new = update_active(previous, rates, settings.directions, order, now)
        if changed := previous is None or new.exchange != previous.exchange:
            skipped = order.before(new.exchange)
            reason = summarize_rejections(rates, settings.directions, skipped, now) or new.reason
            log.warning("active exchange: %s: %s", new.exchange or "none", reason)
        if previous is None or changed or now - previous.time >= REPUBLISH_MS:
            self._active = new
            return new
        return None

    def _now(self) -> tuple[int, int]:
        """Return monotonic and wall time, in this order: a stop in between makes messages seem older, not newer."""
        return self._clock.monotonic(), self._clock.now()


def _index_directions(
    routes_by_direction: Mapping[Instrument, Mapping[str, ConversionRoute]],
) -> dict[tuple[str, Instrument], set[Instrument]]:
    """Return the directions of which an exchange's instrument is a leg."""
    index = dict[tuple[str, Instrument], set[Instrument]]()
    for direction, routes in routes_by_direction.items():
        for leg in (leg for route in routes.values() for leg in route):
            index.setdefault((leg.exchange, leg.instrument), set()).add(direction)
    return index


def _should_publish(previous: Rate | None, rate: Rate) -> bool:
    return previous is None or previous.candidates != rate.candidates or rate.time - previous.time >= REPUBLISH_MS
