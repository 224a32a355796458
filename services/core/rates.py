"""From what exchanges say to rates: legs multiplied, offers compared, the doubtful ones set aside."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Context, Decimal
from statistics import median
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from services.core.conversion import PEGGED, REFERENCE, Hop, Route
from services.core.model import Aside, Feed, Instrument, Leg, Offer, Rate, Source, State, Tick
from services.core.sender_clocks import JITTER, shifted

N = TypeVar("N", bound=Hashable)
EXACT = Context(prec=34)
DIGITS = Context(prec=16)  # of a value that is a product: more than any of its legs has
WIDE = Context(prec=200)  # of a deviation: an absurd price may be any number of digits away from the others
HOLDS = 60_000  # ms after the reference's own time for a value that it holds: so long it gives the same from a cache
UNTRADED = "not traded:"
ANCHOR_AGE = 60_000  # ms for which the last value used may vouch for one of two that disagree


class Limits(NamedTuple):
    """Times in ms, deviation in basis points."""

    own: int = 5_000
    reference: int = 900_000  # what a currency or a peg is worth
    steady: int = 15_000
    outlier: Decimal = Decimal(200)
    reference_price: int = 120_000  # the reference's prices of all else

    def of(self, hop: Hop) -> int:
        """How old the value of a leg may be."""
        if hop.exchange != REFERENCE:
            return self.own
        return self.reference if hop.instrument.base in PEGGED else self.reference_price


class _Quote(NamedTuple):
    """A tick as it came, and the same moments in the book's time."""

    tick: Tick
    received: int
    holds: int | None  # until when, by the exchange's own time for it


class _Report(NamedTuple):
    """What a collector says of an instrument, in the book's time, and its own stamp of the last value."""

    source: Source
    stamp: int | None


class Book:
    """The newest quote of each instrument at each exchange, and the rates that follow from them.

    Its time is that of whoever asks: stamps of what it is given are moved into it.
    """

    def __init__(
        self, routes: Mapping[Instrument, Mapping[str, Route]], limits: Limits, simulated: bool | None = False
    ) -> None:
        self.routes = routes
        self.simulated = simulated  # None: nobody has told yet which market this is
        self._limits = limits
        self.clock_faults: Mapping[str, str] = {}  # by exchange: why its stamps are not believed
        self._quotes: dict[tuple[str, Instrument], _Quote] = {}
        self._reports: dict[tuple[str, Instrument], _Report] = {}
        self._usable_since: dict[tuple[Instrument, str], int | None] = {}  # None: was usable, is not
        self._used: dict[Instrument, tuple[int, Decimal]] = {}

    def see(self, message: Tick | State, by: int = 0) -> None:
        """Take in a quote or a collector's report; `by`: what makes the book's time of its stamps."""
        match message:
            case State():
                self._told_market(message.simulated)
                for stamped, source in zip(message.sources, shifted(message, by).sources, strict=True):
                    self._reports[message.exchange, source.instrument] = _Report(source, stamped.received)
            case Tick(exchange=exchange, instrument=instrument):
                known = self._quotes.get((exchange, instrument))
                quote = _quote(message, by)
                if known is None or quote.received >= known.received - JITTER:
                    self._quotes[exchange, instrument] = quote

    def recall(self, rates: Iterable[Rate], by: int = 0) -> None:
        """Begin with the legs of rates that were kept: the reference's outlive a restart by minutes."""
        for rate in rates:
            self._told_market(rate.simulated)
            for leg in (leg for offer in rate.offers for leg in offer.legs):
                self.see(Tick(leg.exchange, leg.instrument, leg.received, leg.time, leg.bid, leg.ask, leg.value), by)
                source = Source(leg.instrument, Feed.WAITING, leg.received + by, leg.confirmed + by)
                self._reports.setdefault((leg.exchange, leg.instrument), _Report(source, leg.received))

    def _told_market(self, simulated: bool) -> None:
        """What one market said is worth nothing in another: a simulated price must not outlive its simulation."""
        if self.simulated not in (None, simulated):
            for known in (self._quotes, self._reports, self._usable_since, self._used):
                known.clear()
        self.simulated = simulated

    def rate(self, direction: Instrument, now: int) -> Rate:
        """One direction as of now, with the offer of every exchange that has a route."""
        offers = [self._offer(name, route) for name, route in self.routes[direction].items()]
        offers = [self._aged(offer, now) for offer in offers]
        offers = self._compared(direction, offers, now)
        offers = [self._steadied(direction, offer, now) for offer in offers]
        first = next((offer for offer in offers if offer.aside is None), None)
        if first and first.value is not None:
            self._used[direction] = now, first.value
        return Rate(direction, now, tuple(offers), bool(self.simulated))

    def _leg(self, exchange: str, hop: Hop) -> Leg | None:
        quote = self._quotes.get((hop.exchange, hop.instrument))
        value = quote.tick.mid if quote else None
        if quote is None or value is None or value <= 0:
            return None
        confirmed = self._confirmed(hop, quote)
        return Leg(
            exchange=hop.exchange,
            instrument=hop.instrument,
            value=value,
            received=quote.received,
            confirmed=confirmed,
            expires=confirmed + self._limits.of(hop),
            own=hop.exchange == exchange,
            inverted=hop.inverted,
            bid=quote.tick.bid,
            ask=quote.tick.ask,
            time=quote.tick.time,
        )

    def _confirmed(self, hop: Hop, quote: _Quote) -> int:
        """When the value was last known to hold. A collector's word counts only if it speaks of this very value."""
        report, confirmed = self._reports.get((hop.exchange, hop.instrument)), quote.received
        if report and report.source.confirmed is not None and _speaks_of(report, quote):
            confirmed = max(confirmed, report.source.confirmed)
        if hop.exchange == REFERENCE and quote.holds is not None:  # it may go on giving what has long stood still
            confirmed = min(confirmed, quote.holds)
        return confirmed

    def _offer(self, exchange: str, route: Route) -> Offer:
        legs = [self._leg(exchange, hop) for hop in route]
        found = tuple(leg for leg in legs if leg)
        if missing := [hop for hop, leg in zip(route, legs, strict=True) if leg is None]:
            reasons = [f"{self._feed(hop)} {hop.instrument} from {hop.exchange}" for hop in missing]
            reason = "; ".join(filter(None, [*reasons, self._clocks(missing)]))
            return Offer(exchange, found, aside=Aside.MISSING, reason=reason)
        value, bid, ask = multiplied(found)
        return Offer(exchange, found, value, bid, ask, clock=self._clocks(route))

    def untraded(self, direction: Instrument) -> str:
        """Why no exchange can give a direction; empty while one may."""
        reasons = []
        for name, route in self.routes[direction].items():
            absent = [str(hop.instrument) for hop in route if self._feed(hop) == UNTRADED]
            if not absent:
                return ""
            reasons.append(f"{name}: not traded: {', '.join(absent)}")
        return "; ".join(reasons)

    def _feed(self, hop: Hop) -> str:
        report = self._reports.get((hop.exchange, hop.instrument))
        return UNTRADED if report and report.source.feed is Feed.ABSENT else "nothing yet of"

    def _aged(self, offer: Offer, now: int) -> Offer:
        reason = staleness(offer, now)
        return replace(offer, aside=Aside.STALE, reason=reason) if offer.aside is None and reason else offer

    def _clocks(self, hops: Iterable[Hop]) -> str:
        if not self.clock_faults:
            return ""
        exchanges = dict.fromkeys(hop.exchange for hop in hops)
        return "; ".join(self.clock_faults[name] for name in exchanges if name in self.clock_faults)

    def _compared(self, direction: Instrument, offers: Sequence[Offer], now: int) -> list[Offer]:
        values = {o.exchange: o.value for o in offers if o.aside is None and o.value is not None}
        time, value = self._used.get(direction, (0, None))
        anchor = value if now - time <= ANCHOR_AGE else None
        compared = [offer for offer in offers if offer.exchange in values]
        voices = _voices(compared, anchor is not None, self._limits.outlier)
        away = {name for voice in outliers(voices, anchor, self._limits.outlier) for name in voice}
        judged = []
        for offer in offers:
            others = [value for name, value in values.items() if name != offer.exchange]
            away_by = deviation(offer.value, others) if offer.value is not None and others else None
            seen = replace(offer, deviation=away_by)
            if offer.exchange in away:
                reason = (
                    f"{away_by} basis points from the median of {', '.join(n for n in values if n != offer.exchange)}"
                )
                seen = replace(seen, aside=Aside.OUTLIER, reason=reason)
            judged.append(seen)
        return judged

    def _steadied(self, direction: Instrument, offer: Offer, now: int) -> Offer:
        """An offer that failed is taken back only after it has been good for a while."""
        place = direction, offer.exchange
        if offer.aside is not None:
            if place in self._usable_since:
                self._usable_since[place] = None
            return offer
        if place not in self._usable_since:
            self._usable_since[place] = now - self._limits.steady  # the first time, it need not prove itself
        since = self._usable_since[place]
        if since is None:
            since = self._usable_since[place] = now
        left = since + self._limits.steady - now
        reason = f"good again for {(now - since) / 1000:.1f} s, used after {self._limits.steady / 1000:.0f} s"
        return replace(offer, aside=Aside.RECOVERING, reason=reason) if left > 0 else offer


def multiplied(legs: Iterable[Leg]) -> tuple[Decimal, Decimal | None, Decimal | None]:
    """Value, bid and ask of a route. A leg without a spread stands for both sides; no spread at all gives None."""
    legs = tuple(legs)
    if len(legs) == 1 and not legs[0].inverted:
        return legs[0].value, legs[0].bid, legs[0].ask
    value = bid = ask = Decimal(1)
    for leg in legs:
        low, high = leg.bid or leg.value, leg.ask or leg.value
        if leg.inverted:
            value, bid, ask = (EXACT.divide(a, b) for a, b in ((value, leg.value), (bid, high), (ask, low)))
        else:
            value, bid, ask = (EXACT.multiply(a, b) for a, b in ((value, leg.value), (bid, low), (ask, high)))
    spread = any(leg.bid and leg.ask for leg in legs)
    return DIGITS.plus(value), DIGITS.plus(bid) if spread else None, DIGITS.plus(ask) if spread else None


def _grounds(offer: Offer, anchored: bool) -> set[str]:
    """What may be wrong for several offers at once: legs of the reference, or all of it.

    The latter only where the value used last can tell right from wrong: else the reference and who leans on it would
    no longer outvote a third who is wrong.
    """
    if anchored:
        return {leg.exchange for leg in offer.legs if leg.exchange == REFERENCE}
    return {str(leg.instrument) for leg in offer.legs if not leg.own}


def _voices(offers: Iterable[Offer], anchored: bool, limit: Decimal) -> dict[tuple[str, ...], Decimal]:
    """Offers that agree on shared grounds are one voice: where those are wrong, all of them are."""
    voices: dict[tuple[str, ...], Decimal] = {}
    shared: dict[tuple[str, ...], set[str]] = {}
    for offer in offers:
        if offer.value is None:
            continue
        its = _grounds(offer, anchored)
        alike = [v for v in voices if shared[v] & its and abs(deviation(offer.value, [voices[v]])) <= limit]
        voice = (*alike[0], offer.exchange) if alike else (offer.exchange,)
        value, known = (voices.pop(alike[0]), shared.pop(alike[0])) if alike else (offer.value, its)
        voices[voice], shared[voice] = value, known | its
    return voices


def outliers(values: Mapping[N, Decimal], anchor: Decimal | None, limit: Decimal) -> set[N]:
    """Who is farther than `limit` basis points from the median of the rest, the worst first, one at a time.

    Of two that disagree nobody can tell which is wrong; then `anchor`, the value used last, decides if there is one.
    """
    left = dict(values)
    while len(left) > 2 or (len(left) == 2 and anchor is not None):
        vouchers = [anchor] if anchor is not None and len(left) == 2 else []
        away = {n: deviation(v, [*(o for m, o in left.items() if m != n), *vouchers]) for n, v in left.items()}
        worst = max(away, key=lambda name: abs(away[name]))
        if abs(away[worst]) <= limit:
            break
        del left[worst]
    return values.keys() - left.keys()


def deviation(value: Decimal, others: Sequence[Decimal]) -> Decimal:
    """How far a value is from the median of others, in basis points to two places."""
    middle = median(others)
    return EXACT.divide((value - middle) * 10_000, middle).quantize(Decimal("0.01"), context=WIDE)


def staleness(offer: Offer, now: int) -> str:
    """Which legs are too old, for a person to read; empty when none is."""
    old = [leg for leg in offer.legs if leg.expires < now]
    ages = [f"{leg.instrument} from {leg.exchange} is {(now - leg.confirmed) / 1000:.1f} s old" for leg in old]
    return "; ".join([*ages, offer.clock] if old and offer.clock else ages)


def _quote(tick: Tick, by: int) -> _Quote:
    return _Quote(tick, tick.received + by, None if tick.time is None else tick.time + by + HOLDS)


def _speaks_of(report: _Report, quote: _Quote) -> bool:
    """Whether its last value is that quote's, or an older one: by its own stamps or, if those were made anew, ours."""
    received, stamp = report.source.received, report.stamp
    if received is None or stamp is None:
        return False
    return stamp <= quote.tick.received or received <= quote.received + JITTER
