"""How the quotes of each instrument of an exchange arrive, and until when its last quote is known to hold."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from services.core.clocks import ExchangeClock, WallClockOffset
from services.core.exchange import SequencedQuote
from services.core.model import FeedStatus, Instrument, InstrumentFeed, Quote
from services.core.silence import SilenceDetector

MAX_REORDER_MS = 2_000  # within it a quote with a lower sequence number is late; after it a new count has begun


class _LatestQuote(NamedTuple):
    """The last quote of an instrument, when it came, and the exchange's own time of it, by the monotonic clock."""

    sequenced: SequencedQuote
    received: int
    updated_at: int | None


class FeedTracker:
    """All instruments of one exchange. Its times are monotonic, and those in quotes and snapshots are wall time.

    A pause of `min_silence` ms is never silence. A value holds for `value_ttl` ms after the exchange's own time of it,
    or (None) until the next one.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        min_silence: float,
        value_ttl: float | None = None,
        wall_offset: WallClockOffset | None = None,
        clock: ExchangeClock | None = None,
    ) -> None:
        self._detectors = {instrument: SilenceDetector(min_silence) for instrument in instruments}
        self._latest: dict[Instrument, _LatestQuote] = {}
        self._value_ttl = value_ttl
        self._wall_offset, self._clock = wall_offset or WallClockOffset(0, 0), clock or ExchangeClock(0)
        self._absent: set[Instrument] = set()

    def __contains__(self, instrument: Instrument) -> bool:
        return instrument in self._detectors and instrument not in self._absent

    def traded(self) -> tuple[Instrument, ...]:
        """Return the instruments that the exchange trades."""
        return tuple(instrument for instrument in self._detectors if instrument not in self._absent)

    def set_trading(self, instrument: Instrument, trading: bool) -> bool:
        """Set whether the exchange trades an instrument; return whether that is a change."""
        if instrument not in self._detectors or trading == (instrument not in self._absent):
            return False
        self._absent ^= {instrument}
        return True

    def last_received(self, instrument: Instrument) -> int | None:
        """Return when its last quote came."""
        return self._detectors[instrument].last

    def on_quote(self, sequenced: SequencedQuote) -> Quote | None:
        """Apply a quote; return what to publish of it, or None when it is older than the last one."""
        quote, previous = sequenced.quote, self._latest.get(sequenced.quote.instrument)
        now = quote.received - self._wall_offset.offset
        if previous and _is_older(sequenced, previous.sequenced) and now - previous.received < MAX_REORDER_MS:
            return None
        latest = _LatestQuote(sequenced, now, self._updated_at(quote, previous, now))
        self._latest[quote.instrument] = latest
        self._detectors[quote.instrument] = self._detectors[quote.instrument].after_message(now)
        return quote if latest.updated_at is None else self._with_current_stamps(latest)

    def _updated_at(self, quote: Quote, previous: "_LatestQuote | None", now: int) -> int | None:
        """The exchange's time of a value with a `value_ttl`, never later than the time at which it first came."""
        if self._value_ttl is None or quote.time is None:
            return None
        if previous and previous.sequenced.quote.time == quote.time:
            return previous.updated_at
        return now - max(0, self._clock.now(now) - quote.time)

    def snapshot(self, now: int, since: int, proof: int) -> tuple[InstrumentFeed, ...]:
        """Return the status of all instruments. The connection is open `since`, and last proved alive at `proof`.

        On a live feed no quote means no change, so a value of this connection holds while the connection proves alive.
        Of a silent feed it is known only when the value came.
        """
        return tuple(self._snapshot_of(instrument, now, since, proof) for instrument in self._detectors)

    def _snapshot_of(self, instrument: Instrument, now: int, since: int, proof: int) -> InstrumentFeed:
        status, latest = self.status(instrument, now), self._latest.get(instrument)
        if latest is None:
            return InstrumentFeed(instrument, status)
        received = confirmed = latest.received
        if status is FeedStatus.LIVE and received >= since:
            confirmed = max(received, proof)
        if self._value_ttl is not None and latest.updated_at is not None:
            confirmed = min(confirmed, latest.updated_at + int(self._value_ttl))
        wall_time = self._wall_offset.wall_time
        return InstrumentFeed(instrument, status, wall_time(received), wall_time(confirmed))

    def _with_current_stamps(self, latest: "_LatestQuote") -> Quote:
        """The quote with stamps of the current wall clock, which may have been set since it came."""
        quote, received = latest.sequenced.quote, self._wall_offset.wall_time(latest.received)
        time = quote.time if latest.updated_at is None else self._wall_offset.wall_time(latest.updated_at)
        unchanged = (quote.received, quote.time) == (received, time)
        return quote if unchanged else replace(quote, received=received, time=time)

    def latest_quotes(self) -> list[Quote]:
        """Return the last quote of each instrument that the exchange trades."""
        latest = (self._latest[instrument] for instrument in self.traded() if instrument in self._latest)
        return [self._with_current_stamps(each) for each in latest]

    def silent(self, now: int) -> tuple[Instrument, ...]:
        """Return the instruments that are quiet for longer than their own rhythm allows."""
        return tuple(instrument for instrument in self._detectors if self.status(instrument, now) is FeedStatus.SILENT)

    def status(self, instrument: Instrument, now: int) -> FeedStatus:
        """Return how the quotes of an instrument arrive."""
        detector = self._detectors[instrument]
        if instrument in self._absent:
            return FeedStatus.ABSENT
        if detector.last is None:
            return FeedStatus.WAITING
        return FeedStatus.SILENT if detector.is_silent(now) else FeedStatus.LIVE


def _is_older(quote: SequencedQuote, previous: SequencedQuote) -> bool:
    return quote.sequence is not None and previous.sequence is not None and quote.sequence < previous.sequence
