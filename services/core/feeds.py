"""What a collector knows of each of its instruments: does it flow, and until when is its value known to hold."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from services.core.clocks import ExchangeClock, WallClockOffset
from services.core.exchange import SequencedQuote
from services.core.model import FeedStatus, Instrument, InstrumentFeed, Quote
from services.core.silence import SilenceDetector

MAX_REORDER_MS = (
    2_000  # ms; a quote numbered below the last one is late within this time, after it a new count has begun
)


class _LatestQuote(NamedTuple):
    """The last quote of an instrument, when it came, and when the exchange gave it, where it says so."""

    sequenced: SequencedQuote
    received: int
    updated_at: int | None


class FeedTracker:
    """All instruments of one exchange. `floor` (ms) is what is never called silence.

    `holds` (ms): how long a value holds after the exchange's own time for it; None: while nothing newer comes.
    Moments are of a monotonic clock, of which quotes and views have the `stamps`.
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
        """Those that the exchange gives."""
        return tuple(instrument for instrument in self._detectors if instrument not in self._absent)

    def set_trading(self, instrument: Instrument, trading: bool) -> bool:
        """Does the exchange give it? Answers whether that is news."""
        if instrument not in self._detectors or trading == (instrument not in self._absent):
            return False
        self._absent ^= {instrument}
        return True

    def last_received(self, instrument: Instrument) -> int | None:
        """When its last quote came."""
        return self._detectors[instrument].last

    def on_quote(self, sequenced: SequencedQuote) -> Quote | None:
        """A quote came; answers what to publish of it. None: it is older than the last one."""
        tick, known = sequenced.quote, self._latest.get(sequenced.quote.instrument)
        now = tick.received - self._wall_offset.offset
        if known and _is_older(sequenced, known.sequenced) and now - known.received < MAX_REORDER_MS:
            return None
        latest = self._latest[tick.instrument] = _LatestQuote(sequenced, now, self._updated_at(tick, known, now))
        self._detectors[tick.instrument] = self._detectors[tick.instrument].after_message(now)
        return tick if latest.updated_at is None else self._with_current_stamps(latest)

    def _updated_at(self, tick: Quote, known: "_LatestQuote | None", now: int) -> int | None:
        """When the exchange gave a value that holds for so long only: never after it was first heard."""
        if self._value_ttl is None or tick.time is None:
            return None
        if known and known.sequenced.quote.time == tick.time:
            return known.updated_at
        return now - max(0, self._clock.now(now) - tick.time)

    def snapshot(self, now: int, since: int, proof: int) -> tuple[InstrumentFeed, ...]:
        """How they all stand. The connection is up `since`, and `proof` is when it last proved alive.

        On a live feed quiet means unchanged, so a value that came over this connection holds as long as that proves
        alive. When the feed falls silent, all that is known is when the value came.
        """
        return tuple(self._snapshot_of(instrument, now, since, proof) for instrument in self._detectors)

    def _snapshot_of(self, instrument: Instrument, now: int, since: int, proof: int) -> InstrumentFeed:
        feed, latest = self.status(instrument, now), self._latest.get(instrument)
        if latest is None:
            return InstrumentFeed(instrument, feed)
        received = confirmed = latest.received
        if feed is FeedStatus.LIVE and received >= since:
            confirmed = max(received, proof)
        if self._value_ttl is not None and latest.updated_at is not None:
            confirmed = min(confirmed, latest.updated_at + int(self._value_ttl))
        return InstrumentFeed(
            instrument, feed, self._wall_offset.wall_time(received), self._wall_offset.wall_time(confirmed)
        )

    def _with_current_stamps(self, latest: "_LatestQuote") -> Quote:
        """A quote with the stamps of today's wall clock, which may have been set since it came."""
        tick, received = latest.sequenced.quote, self._wall_offset.wall_time(latest.received)
        time = tick.time if latest.updated_at is None else self._wall_offset.wall_time(latest.updated_at)
        return tick if (tick.received, tick.time) == (received, time) else replace(tick, received=received, time=time)

    def latest_quotes(self) -> list[Quote]:
        """The last quote of each that the exchange gives."""
        return [self._with_current_stamps(self._latest[each]) for each in self.traded() if each in self._latest]

    def silent(self, now: int) -> tuple[Instrument, ...]:
        """Those that are quiet for longer than their rhythm allows."""
        return tuple(instrument for instrument in self._detectors if self.status(instrument, now) is FeedStatus.SILENT)

    def status(self, instrument: Instrument, now: int) -> FeedStatus:
        """How one of them flows."""
        rhythm = self._detectors[instrument]
        if instrument in self._absent:
            return FeedStatus.ABSENT
        if rhythm.last is None:
            return FeedStatus.WAITING
        return FeedStatus.SILENT if rhythm.is_silent(now) else FeedStatus.LIVE


def _is_older(heard: SequencedQuote, known: SequencedQuote) -> bool:
    return heard.sequence is not None and known.sequence is not None and heard.sequence < known.sequence
