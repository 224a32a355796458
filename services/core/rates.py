"""Rates: the legs of a route multiplied, one candidate per exchange, doubtful candidates rejected.

A candidate passes three checks in this order: it is not stale, not an outlier, not recovering. Each check sets the
reason of the first failure and leaves rejected candidates as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import NamedTuple

from msgspec.structs import replace

from services.core.conversion import STABLECOINS, ConversionLeg, ConversionRoute
from services.core.decimals import PRODUCT_CONTEXT
from services.core.exchange import Exchange
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
from services.core.outliers import reject_outliers
from services.core.sender_clocks import STAMP_JITTER_MS, shift_stamps

VALUE_CONTEXT = Context(prec=16)  # of a product: more digits than any of its legs has
NOT_TRADED = "not traded:"
REASON_SEPARATOR = "; "  # of the legs that a candidate lacks
MAX_ANCHOR_AGE_MS = 60_000  # for which the value used last decides between two candidates that disagree


class Thresholds(NamedTuple):
    """From which age and deviation on a candidate is rejected."""

    max_age_ms: int = 5_000
    max_reference_age_ms: int = 900_000  # of the reference's prices of stablecoins: what a currency or a peg is worth
    recovery_ms: int = 15_000
    max_deviation_bps: Decimal = Decimal(200)
    max_reference_price_age_ms: int = 120_000  # of the reference's other prices

    def max_leg_age(self, leg: ConversionLeg, of_reference: bool) -> int:
        """Return the age in ms up to which the value of a leg is used."""
        if not of_reference:
            return self.max_age_ms
        return self.max_reference_age_ms if leg.instrument.base in STABLECOINS else self.max_reference_price_age_ms


class _TimedQuote(NamedTuple):
    """A quote with its time of receipt by the calculator's clock."""

    quote: Quote
    received: int
    valid_until: int | None  # for an exchange whose values hold for a bounded time only


class _FeedReport(NamedTuple):
    """What a collector reports of an instrument, by the calculator's clock, and its own stamp of the last value."""

    feed: InstrumentFeed
    received_stamp: int | None


class RateCalculator:
    """The newest quote of each instrument at each exchange, and the rates that follow from them.

    Its clock is the caller's: stamps in messages are shifted to it by the `offset` that comes with them.
    """

    def __init__(
        self,
        exchanges: Iterable[Exchange],
        routes: Mapping[Instrument, Mapping[str, ConversionRoute]],
        thresholds: Thresholds,
        simulated: bool | None = False,
    ) -> None:
        exchanges = tuple(exchanges)
        self._references = {exchange.name for exchange in exchanges if exchange.is_reference}
        self._value_ttl_ms = {e.name: int(e.value_ttl * 1000) for e in exchanges if e.value_ttl is not None}
        self.routes = routes
        self.simulated = simulated  # None: no message has named the market yet
        self._thresholds = thresholds
        self.clock_faults: Mapping[str, str] = {}  # by exchange: why its stamps are not believed
        self._quotes: dict[tuple[str, Instrument], _TimedQuote] = {}
        self._reports: dict[tuple[str, Instrument], _FeedReport] = {}
        self._usable_since: dict[tuple[Instrument, str], int | None] = {}  # None: was usable, is not
        self._last_used: dict[Instrument, tuple[int, Decimal]] = {}

    def apply(self, message: Quote | ExchangeStatus, offset: int = 0) -> None:
        """Apply a quote or a collector's report; `offset` shifts its stamps to the calculator's clock."""
        match message:
            case ExchangeStatus():
                self._set_market(message.simulated)
                for stamped, feed in zip(message.feeds, shift_stamps(message, offset).feeds, strict=True):
                    self._reports[message.exchange, feed.instrument] = _FeedReport(feed, stamped.received)
            case Quote(exchange=exchange, instrument=instrument):
                previous = self._quotes.get((exchange, instrument))
                quote = self._timed_quote(message, offset)
                if previous is None or quote.received >= previous.received - STAMP_JITTER_MS:
                    self._quotes[exchange, instrument] = quote

    def _timed_quote(self, quote: Quote, offset: int) -> _TimedQuote:
        ttl = self._value_ttl_ms.get(quote.exchange)
        valid_until = None if quote.time is None or ttl is None else quote.time + offset + ttl
        return _TimedQuote(quote, quote.received + offset, valid_until)

    def restore(self, rates: Iterable[Rate], offset: int = 0) -> None:
        """Start with the legs of saved rates: those of the reference are usable for minutes after a restart."""
        for rate in rates:
            self._set_market(rate.simulated)
            for leg in (leg for candidate in rate.candidates for leg in candidate.legs):
                quote = Quote(leg.exchange, leg.instrument, leg.received, leg.time, leg.bid, leg.ask, leg.value)
                self.apply(quote, offset)
                received, confirmed = leg.received + offset, leg.confirmed + offset
                feed = InstrumentFeed(leg.instrument, FeedStatus.WAITING, received, confirmed)
                self._reports.setdefault((leg.exchange, leg.instrument), _FeedReport(feed, leg.received))

    def _set_market(self, simulated: bool) -> None:
        """Forget the values of the other market: a simulated price must not outlive its simulation."""
        if self.simulated not in (None, simulated):
            for values in (self._quotes, self._reports, self._usable_since, self._last_used):
                values.clear()
        self.simulated = simulated

    def rate(self, direction: Instrument, now: int) -> Rate:
        """Return the rate of a direction as of now, with a candidate of every exchange that has a route."""
        candidates = [self._build_candidate(name, route) for name, route in self.routes[direction].items()]
        candidates = [_reject_stale(candidate, now) for candidate in candidates]
        candidates = self._reject_outliers(direction, candidates, now)
        candidates = [self._reject_recovering(direction, candidate, now) for candidate in candidates]
        first = next((candidate for candidate in candidates if candidate.rejected is None), None)
        if first and first.value is not None:
            self._last_used[direction] = now, first.value
        return Rate(direction, now, tuple(candidates), bool(self.simulated))

    def _build_candidate(self, exchange: str, route: ConversionRoute) -> RateCandidate:
        built = [self._build_leg(exchange, leg) for leg in route]
        legs = tuple(leg for leg in built if leg)
        if missing := [leg for leg, value in zip(route, built, strict=True) if value is None]:
            reasons = [f"{self._missing_reason(leg)} {leg.instrument} from {leg.exchange}" for leg in missing]
            reason = REASON_SEPARATOR.join(filter(None, [*reasons, self._clock_faults_of(missing)]))
            return RateCandidate(exchange, legs, rejected=RejectReason.MISSING, reason=reason)
        value, bid, ask = multiply_legs(legs)
        return RateCandidate(exchange, legs, value, bid, ask, clock_fault=self._clock_faults_of(route))

    def _build_leg(self, exchange: str, leg: ConversionLeg) -> Leg | None:
        timed = self._quotes.get((leg.exchange, leg.instrument))
        value = timed.quote.mid if timed else None
        if timed is None or value is None or value <= 0:
            return None
        confirmed = self._confirmed_at(leg, timed)
        return Leg(
            exchange=leg.exchange,
            instrument=leg.instrument,
            value=value,
            received=timed.received,
            confirmed=confirmed,
            expires=confirmed + self._thresholds.max_leg_age(leg, leg.exchange in self._references),
            own=leg.exchange == exchange,
            inverted=leg.inverted,
            bid=timed.quote.bid,
            ask=timed.quote.ask,
            time=timed.quote.time,
        )

    def _confirmed_at(self, leg: ConversionLeg, timed: _TimedQuote) -> int:
        """When the value was last known to hold. A collector's report counts only if it is of this very value."""
        report, confirmed = self._reports.get((leg.exchange, leg.instrument)), timed.received
        if report and report.feed.confirmed is not None and _report_covers(report, timed):
            confirmed = max(confirmed, report.feed.confirmed)
        return confirmed if timed.valid_until is None else min(confirmed, timed.valid_until)

    def _missing_reason(self, leg: ConversionLeg) -> str:
        report = self._reports.get((leg.exchange, leg.instrument))
        return NOT_TRADED if report and report.feed.status is FeedStatus.ABSENT else "nothing yet of"

    def _clock_faults_of(self, legs: Iterable[ConversionLeg]) -> str:
        if not self.clock_faults:
            return ""
        exchanges = dict.fromkeys(leg.exchange for leg in legs)
        return REASON_SEPARATOR.join(self.clock_faults[name] for name in exchanges if name in self.clock_faults)

    def untraded_reason(self, direction: Instrument) -> str:
        """Return why no exchange can price a direction, or "" while one may."""
        reasons = []
        for name, route in self.routes[direction].items():
            untraded = [str(leg.instrument) for leg in route if self._missing_reason(leg) == NOT_TRADED]
            if not untraded:
                return ""
            reasons.append(f"{name}: not traded: {', '.join(untraded)}")
        return REASON_SEPARATOR.join(reasons)

    def _reject_outliers(
        self, direction: Instrument, candidates: Sequence[RateCandidate], now: int
    ) -> list[RateCandidate]:
        used_at, used = self._last_used.get(direction, (0, None))
        anchor = used if now - used_at <= MAX_ANCHOR_AGE_MS else None
        return reject_outliers(candidates, self._references, anchor, self._thresholds.max_deviation_bps)

    def _reject_recovering(self, direction: Instrument, candidate: RateCandidate, now: int) -> RateCandidate:
        """Reject a candidate that has failed until it has been good for a while."""
        key, recovery = (direction, candidate.exchange), self._thresholds.recovery_ms
        if candidate.rejected is not None:
            if key in self._usable_since:
                self._usable_since[key] = None
            return candidate
        since = self._usable_since.setdefault(key, now - recovery)  # the first time, it need not prove itself
        if since is None:
            since = self._usable_since[key] = now
        if now - since >= recovery:
            return candidate
        reason = f"good again for {(now - since) / 1000:.1f} s, used after {recovery / 1000:.0f} s"
        return replace(candidate, rejected=RejectReason.RECOVERING, reason=reason)


def _reject_stale(candidate: RateCandidate, now: int) -> RateCandidate:
    if candidate.rejected is not None or not (reason := stale_reason(candidate, now)):
        return candidate
    return replace(candidate, rejected=RejectReason.STALE, reason=reason)


def stale_reason(candidate: RateCandidate, now: int) -> str:
    """Return which legs are too old, with their ages, or "" when none is."""
    old = [leg for leg in candidate.legs if leg.expires < now]
    ages = [f"{leg.instrument} from {leg.exchange} is {(now - leg.confirmed) / 1000:.1f} s old" for leg in old]
    return REASON_SEPARATOR.join([*ages, candidate.clock_fault] if old and candidate.clock_fault else ages)


def multiply_legs(legs: Iterable[Leg]) -> tuple[Decimal, Decimal | None, Decimal | None]:
    """Return value, bid and ask of a route. A leg without a spread has its value on both sides; without any, None."""
    legs = tuple(legs)
    if len(legs) == 1 and not legs[0].inverted:
        return legs[0].value, legs[0].bid, legs[0].ask
    value = bid = ask = Decimal(1)
    for leg in legs:
        low, high = leg.bid or leg.value, leg.ask or leg.value
        if leg.inverted:
            value = PRODUCT_CONTEXT.divide(value, leg.value)
            bid, ask = PRODUCT_CONTEXT.divide(bid, high), PRODUCT_CONTEXT.divide(ask, low)
        else:
            value = PRODUCT_CONTEXT.multiply(value, leg.value)
            bid, ask = PRODUCT_CONTEXT.multiply(bid, low), PRODUCT_CONTEXT.multiply(ask, high)
    value, bid, ask = VALUE_CONTEXT.plus(value), VALUE_CONTEXT.plus(bid), VALUE_CONTEXT.plus(ask)
    return (value, bid, ask) if any(leg.bid and leg.ask for leg in legs) else (value, None, None)


def _report_covers(report: _FeedReport, timed: _TimedQuote) -> bool:
    """Whether the report's last value is that quote's, or an older one.

    It is compared by the collector's stamps, or by ours where the collector has stamped it again.
    """
    received, stamp = report.feed.received, report.received_stamp
    if received is None or stamp is None:
        return False
    return stamp <= timed.quote.received or received <= timed.received + STAMP_JITTER_MS
