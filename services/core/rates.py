"""From what exchanges say to rates: legs multiplied, offers compared, the doubtful ones set aside."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Context, Decimal
from statistics import median
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from services.core.conversion import REFERENCE, STABLECOINS, ConversionLeg, ConversionRoute
from services.core.model import (
    ExchangeStatus,
    FeedStatus,
    Instrument,
    InstrumentFeed,
    Leg,
    Quote,
    Rate,
    RateCandidate,
    RejectReason,
)
from services.core.sender_clocks import STAMP_JITTER_MS, shift_stamps

N = TypeVar("N", bound=Hashable)
PRODUCT_CONTEXT = Context(prec=34)
VALUE_CONTEXT = Context(prec=16)  # of a value that is a product: more than any of its legs has
DEVIATION_CONTEXT = Context(
    prec=200
)  # of a deviation: an absurd price may be any number of digits away from the others
REFERENCE_TTL_MS = (
    60_000  # ms after the reference's own time for a value that it holds: so long it gives the same from a cache
)
NOT_TRADED = "not traded:"
MAX_ANCHOR_AGE_MS = 60_000  # ms for which the last value used may vouch for one of two that disagree


class Thresholds(NamedTuple):
    """Times in ms, deviation in basis points."""

    max_age_ms: int = 5_000
    max_reference_age_ms: int = 900_000  # what a currency or a peg is worth
    recovery_ms: int = 15_000
    max_deviation_bps: Decimal = Decimal(200)
    max_reference_price_age_ms: int = 120_000  # the reference's prices of all else

    def max_leg_age(self, leg: ConversionLeg) -> int:
        """How old the value of a leg may be."""
        if leg.exchange != REFERENCE:
            return self.max_age_ms
        return self.max_reference_age_ms if leg.instrument.base in STABLECOINS else self.max_reference_price_age_ms


class _TimedQuote(NamedTuple):
    """A tick as it came, and the same moments in the book's time."""

    quote: Quote
    received: int
    valid_until: int | None  # until when, by the exchange's own time for it


class _FeedReport(NamedTuple):
    """What a collector says of an instrument, in the book's time, and its own stamp of the last value."""

    feed: InstrumentFeed
    received_stamp: int | None


class RateCalculator:
    """The newest quote of each instrument at each exchange, and the rates that follow from them.

    Its time is that of whoever asks: stamps of what it is given are moved into it.
    """

    def __init__(
        self,
        routes: Mapping[Instrument, Mapping[str, ConversionRoute]],
        thresholds: Thresholds,
        simulated: bool | None = False,
    ) -> None:
        self.routes = routes
        self.simulated = simulated  # None: nobody has told yet which market this is
        self._thresholds = thresholds
        self.clock_faults: Mapping[str, str] = {}  # by exchange: why its stamps are not believed
        self._quotes: dict[tuple[str, Instrument], _TimedQuote] = {}
        self._reports: dict[tuple[str, Instrument], _FeedReport] = {}
        self._usable_since: dict[tuple[Instrument, str], int | None] = {}  # None: was usable, is not
        self._last_used: dict[Instrument, tuple[int, Decimal]] = {}

    def apply(self, message: Quote | ExchangeStatus, offset: int = 0) -> None:
        """Take in a quote or a collector's report; `by`: what makes the book's time of its stamps."""
        match message:
            case ExchangeStatus():
                self._set_market(message.simulated)
                for stamped, source in zip(message.feeds, shift_stamps(message, offset).feeds, strict=True):
                    self._reports[message.exchange, source.instrument] = _FeedReport(source, stamped.received)
            case Quote(exchange=exchange, instrument=instrument):
                known = self._quotes.get((exchange, instrument))
                quote = _timed_quote(message, offset)
                if known is None or quote.received >= known.received - STAMP_JITTER_MS:
                    self._quotes[exchange, instrument] = quote

    def restore(self, rates: Iterable[Rate], offset: int = 0) -> None:
        """Begin with the legs of rates that were kept: the reference's outlive a restart by minutes."""
        for rate in rates:
            self._set_market(rate.simulated)
            for leg in (leg for offer in rate.candidates for leg in offer.legs):
                self.apply(
                    Quote(leg.exchange, leg.instrument, leg.received, leg.time, leg.bid, leg.ask, leg.value), offset
                )
                source = InstrumentFeed(
                    leg.instrument, FeedStatus.WAITING, leg.received + offset, leg.confirmed + offset
                )
                self._reports.setdefault((leg.exchange, leg.instrument), _FeedReport(source, leg.received))

    def _set_market(self, simulated: bool) -> None:
        """What one market said is worth nothing in another: a simulated price must not outlive its simulation."""
        if self.simulated not in (None, simulated):
            for known in (self._quotes, self._reports, self._usable_since, self._last_used):
                known.clear()
        self.simulated = simulated

    def rate(self, direction: Instrument, now: int) -> Rate:
        """One direction as of now, with the offer of every exchange that has a route."""
        offers = [self._build_candidate(name, route) for name, route in self.routes[direction].items()]
        offers = [self._reject_stale(offer, now) for offer in offers]
        offers = self._reject_outliers(direction, offers, now)
        offers = [self._reject_recovering(direction, offer, now) for offer in offers]
        first = next((offer for offer in offers if offer.rejected is None), None)
        if first and first.value is not None:
            self._last_used[direction] = now, first.value
        return Rate(direction, now, tuple(offers), bool(self.simulated))

    def _build_leg(self, exchange: str, hop: ConversionLeg) -> Leg | None:
        quote = self._quotes.get((hop.exchange, hop.instrument))
        value = quote.quote.mid if quote else None
        if quote is None or value is None or value <= 0:
            return None
        confirmed = self._confirmed_at(hop, quote)
        return Leg(
            exchange=hop.exchange,
            instrument=hop.instrument,
            value=value,
            received=quote.received,
            confirmed=confirmed,
            expires=confirmed + self._thresholds.max_leg_age(hop),
            own=hop.exchange == exchange,
            inverted=hop.inverted,
            bid=quote.quote.bid,
            ask=quote.quote.ask,
            time=quote.quote.time,
        )

    def _confirmed_at(self, hop: ConversionLeg, quote: _TimedQuote) -> int:
        """When the value was last known to hold. A collector's word counts only if it speaks of this very value."""
        report, confirmed = self._reports.get((hop.exchange, hop.instrument)), quote.received
        if report and report.feed.confirmed is not None and _report_covers(report, quote):
            confirmed = max(confirmed, report.feed.confirmed)
        if hop.exchange == REFERENCE and quote.valid_until is not None:  # it may go on giving what has long stood still
            confirmed = min(confirmed, quote.valid_until)
        return confirmed

    def _build_candidate(self, exchange: str, route: ConversionRoute) -> RateCandidate:
        legs = [self._build_leg(exchange, hop) for hop in route]
        found = tuple(leg for leg in legs if leg)
        if missing := [hop for hop, leg in zip(route, legs, strict=True) if leg is None]:
            reasons = [f"{self._missing_reason(hop)} {hop.instrument} from {hop.exchange}" for hop in missing]
            reason = "; ".join(filter(None, [*reasons, self._clock_faults_of(missing)]))
            return RateCandidate(exchange, found, rejected=RejectReason.MISSING, reason=reason)
        value, bid, ask = multiply_legs(found)
        return RateCandidate(exchange, found, value, bid, ask, clock_fault=self._clock_faults_of(route))

    def untraded_reason(self, direction: Instrument) -> str:
        """Why no exchange can give a direction; empty while one may."""
        reasons = []
        for name, route in self.routes[direction].items():
            absent = [str(hop.instrument) for hop in route if self._missing_reason(hop) == NOT_TRADED]
            if not absent:
                return ""
            reasons.append(f"{name}: not traded: {', '.join(absent)}")
        return "; ".join(reasons)

    def _missing_reason(self, hop: ConversionLeg) -> str:
        report = self._reports.get((hop.exchange, hop.instrument))
        return NOT_TRADED if report and report.feed.status is FeedStatus.ABSENT else "nothing yet of"

    def _reject_stale(self, offer: RateCandidate, now: int) -> RateCandidate:
        reason = stale_reason(offer, now)
        return (
            replace(offer, rejected=RejectReason.STALE, reason=reason) if offer.rejected is None and reason else offer
        )

    def _clock_faults_of(self, hops: Iterable[ConversionLeg]) -> str:
        if not self.clock_faults:
            return ""
        exchanges = dict.fromkeys(hop.exchange for hop in hops)
        return "; ".join(self.clock_faults[name] for name in exchanges if name in self.clock_faults)

    def _reject_outliers(self, direction: Instrument, offers: Sequence[RateCandidate], now: int) -> list[RateCandidate]:
        values = {o.exchange: o.value for o in offers if o.rejected is None and o.value is not None}
        time, value = self._last_used.get(direction, (0, None))
        anchor = value if now - time <= MAX_ANCHOR_AGE_MS else None
        compared = [offer for offer in offers if offer.exchange in values]
        voices = _correlated_groups(compared, anchor is not None, self._thresholds.max_deviation_bps)
        away = {name for voice in find_outliers(voices, anchor, self._thresholds.max_deviation_bps) for name in voice}
        judged = []
        for offer in offers:
            others = [value for name, value in values.items() if name != offer.exchange]
            away_by = deviation_bps(offer.value, others) if offer.value is not None and others else None
            seen = replace(offer, deviation=away_by)
            if offer.exchange in away:
                reason = (
                    f"{away_by} basis points from the median of {', '.join(n for n in values if n != offer.exchange)}"
                )
                seen = replace(seen, rejected=RejectReason.OUTLIER, reason=reason)
            judged.append(seen)
        return judged

    def _reject_recovering(self, direction: Instrument, offer: RateCandidate, now: int) -> RateCandidate:
        """An offer that failed is taken back only after it has been good for a while."""
        place = direction, offer.exchange
        if offer.rejected is not None:
            if place in self._usable_since:
                self._usable_since[place] = None
            return offer
        if place not in self._usable_since:
            self._usable_since[place] = now - self._thresholds.recovery_ms  # the first time, it need not prove itself
        since = self._usable_since[place]
        if since is None:
            since = self._usable_since[place] = now
        left = since + self._thresholds.recovery_ms - now
        reason = f"good again for {(now - since) / 1000:.1f} s, used after {self._thresholds.recovery_ms / 1000:.0f} s"
        return replace(offer, rejected=RejectReason.RECOVERING, reason=reason) if left > 0 else offer


def multiply_legs(legs: Iterable[Leg]) -> tuple[Decimal, Decimal | None, Decimal | None]:
    """Value, bid and ask of a route. A leg without a spread stands for both sides; no spread at all gives None."""
    legs = tuple(legs)
    if len(legs) == 1 and not legs[0].inverted:
        return legs[0].value, legs[0].bid, legs[0].ask
    value = bid = ask = Decimal(1)
    for leg in legs:
        low, high = leg.bid or leg.value, leg.ask or leg.value
        if leg.inverted:
            value, bid, ask = (PRODUCT_CONTEXT.divide(a, b) for a, b in ((value, leg.value), (bid, high), (ask, low)))
        else:
            value, bid, ask = (PRODUCT_CONTEXT.multiply(a, b) for a, b in ((value, leg.value), (bid, low), (ask, high)))
    spread = any(leg.bid and leg.ask for leg in legs)
    return (
        VALUE_CONTEXT.plus(value),
        VALUE_CONTEXT.plus(bid) if spread else None,
        VALUE_CONTEXT.plus(ask) if spread else None,
    )


def _shared_dependencies(offer: RateCandidate, anchored: bool) -> set[str]:
    """What may be wrong for several offers at once: legs of the reference, or all of it.

    The latter only where the value used last can tell right from wrong: else the reference and who leans on it would
    no longer outvote a third who is wrong.
    """
    if anchored:
        return {leg.exchange for leg in offer.legs if leg.exchange == REFERENCE}
    return {str(leg.instrument) for leg in offer.legs if not leg.own}


def _correlated_groups(
    offers: Iterable[RateCandidate], anchored: bool, limit: Decimal
) -> dict[tuple[str, ...], Decimal]:
    """Offers that agree on shared grounds are one voice: where those are wrong, all of them are."""
    voices: dict[tuple[str, ...], Decimal] = {}
    shared: dict[tuple[str, ...], set[str]] = {}
    for offer in offers:
        if offer.value is None:
            continue
        its = _shared_dependencies(offer, anchored)
        alike = [v for v in voices if shared[v] & its and abs(deviation_bps(offer.value, [voices[v]])) <= limit]
        voice = (*alike[0], offer.exchange) if alike else (offer.exchange,)
        value, known = (voices.pop(alike[0]), shared.pop(alike[0])) if alike else (offer.value, its)
        voices[voice], shared[voice] = value, known | its
    return voices


def find_outliers(values: Mapping[N, Decimal], anchor: Decimal | None, limit: Decimal) -> set[N]:
    """Who is farther than `limit` basis points from the median of the rest, the worst first, one at a time.

    Of two that disagree nobody can tell which is wrong; then `anchor`, the value used last, decides if there is one.
    """
    left = dict(values)
    while len(left) > 2 or (len(left) == 2 and anchor is not None):
        vouchers = [anchor] if anchor is not None and len(left) == 2 else []
        away = {n: deviation_bps(v, [*(o for m, o in left.items() if m != n), *vouchers]) for n, v in left.items()}
        worst = max(away, key=lambda name: abs(away[name]))
        if abs(away[worst]) <= limit:
            break
        del left[worst]
    return values.keys() - left.keys()


def deviation_bps(value: Decimal, others: Sequence[Decimal]) -> Decimal:
    """How far a value is from the median of others, in basis points to two places."""
    middle = median(others)
    return PRODUCT_CONTEXT.divide((value - middle) * 10_000, middle).quantize(
        Decimal("0.01"), context=DEVIATION_CONTEXT
    )


def stale_reason(offer: RateCandidate, now: int) -> str:
    """Which legs are too old, for a person to read; empty when none is."""
    old = [leg for leg in offer.legs if leg.expires < now]
    ages = [f"{leg.instrument} from {leg.exchange} is {(now - leg.confirmed) / 1000:.1f} s old" for leg in old]
    return "; ".join([*ages, offer.clock_fault] if old and offer.clock_fault else ages)


def _timed_quote(tick: Quote, by: int) -> _TimedQuote:
    return _TimedQuote(tick, tick.received + by, None if tick.time is None else tick.time + by + REFERENCE_TTL_MS)


def _report_covers(report: _FeedReport, quote: _TimedQuote) -> bool:
    """Whether its last value is that quote's, or an older one: by its own stamps or, if those were made anew, ours."""
    received, stamp = report.feed.received, report.received_stamp
    if received is None or stamp is None:
        return False
    return stamp <= quote.quote.received or received <= quote.received + STAMP_JITTER_MS
