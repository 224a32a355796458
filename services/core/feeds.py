"""What a collector knows of each of its instruments: does it flow, and until when is its value known to hold."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from services.core.clocks import ExchangeClock, Stamps
from services.core.exchange import Heard
from services.core.model import Feed, Instrument, Source, Tick
from services.core.silence import Rhythm

STRAGGLING = 2_000  # ms; a quote numbered below the last one is late within this time, after it a new count has begun


class _Latest(NamedTuple):
    """The last quote of an instrument, when it came, and when the exchange gave it, where it says so."""

    heard: Heard
    received: int
    updated: int | None


class Sources:
    """All instruments of one exchange. `floor` (ms) is what is never called silence.

    `holds` (ms): how long a value holds after the exchange's own time for it; None: while nothing newer comes.
    Moments are of a monotonic clock, of which quotes and views have the `stamps`.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        floor: float,
        holds: float | None = None,
        stamps: Stamps | None = None,
        clock: ExchangeClock | None = None,
    ) -> None:
        self._rhythms = {instrument: Rhythm(floor) for instrument in instruments}
        self._latest: dict[Instrument, _Latest] = {}
        self._holds = holds
        self._stamps, self._clock = stamps or Stamps(0, 0), clock or ExchangeClock(0)
        self._absent: set[Instrument] = set()

    def __contains__(self, instrument: Instrument) -> bool:
        return instrument in self._rhythms and instrument not in self._absent

    def present(self) -> tuple[Instrument, ...]:
        """Those that the exchange gives."""
        return tuple(instrument for instrument in self._rhythms if instrument not in self._absent)

    def mark(self, instrument: Instrument, present: bool) -> bool:
        """Does the exchange give it? Answers whether that is news."""
        if instrument not in self._rhythms or present == (instrument not in self._absent):
            return False
        self._absent ^= {instrument}
        return True

    def last(self, instrument: Instrument) -> int | None:
        """When its last quote came."""
        return self._rhythms[instrument].last

    def heard(self, heard: Heard) -> Tick | None:
        """A quote came; answers what to publish of it. None: it is older than the last one."""
        tick, known = heard.tick, self._latest.get(heard.tick.instrument)
        now = tick.received - self._stamps.offset
        if known and _older(heard, known.heard) and now - known.received < STRAGGLING:
            return None
        latest = self._latest[tick.instrument] = _Latest(heard, now, self._updated(tick, known, now))
        self._rhythms[tick.instrument] = self._rhythms[tick.instrument].heard(now)
        return tick if latest.updated is None else self._stamped(latest)

    def _updated(self, tick: Tick, known: "_Latest | None", now: int) -> int | None:
        """When the exchange gave a value that holds for so long only: never after it was first heard."""
        if self._holds is None or tick.time is None:
            return None
        if known and known.heard.tick.time == tick.time:
            return known.updated
        return now - max(0, self._clock.now(now) - tick.time)

    def view(self, now: int, since: int, proof: int) -> tuple[Source, ...]:
        """How they all stand. The connection is up `since`, and `proof` is when it last proved alive.

        On a live feed quiet means unchanged, so a value that came over this connection holds as long as that proves
        alive. When the feed falls silent, all that is known is when the value came.
        """
        return tuple(self._source(instrument, now, since, proof) for instrument in self._rhythms)

    def _source(self, instrument: Instrument, now: int, since: int, proof: int) -> Source:
        feed, latest = self.feed(instrument, now), self._latest.get(instrument)
        if latest is None:
            return Source(instrument, feed)
        received = confirmed = latest.received
        if feed is Feed.LIVE and received >= since:
            confirmed = max(received, proof)
        if self._holds is not None and latest.updated is not None:
            confirmed = min(confirmed, latest.updated + int(self._holds))
        return Source(instrument, feed, self._stamps.wall(received), self._stamps.wall(confirmed))

    def _stamped(self, latest: "_Latest") -> Tick:
        """A quote with the stamps of today's wall clock, which may have been set since it came."""
        tick, received = latest.heard.tick, self._stamps.wall(latest.received)
        time = tick.time if latest.updated is None else self._stamps.wall(latest.updated)
        return tick if (tick.received, tick.time) == (received, time) else replace(tick, received=received, time=time)

    def quotes(self) -> list[Tick]:
        """The last quote of each that the exchange gives."""
        return [self._stamped(self._latest[each]) for each in self.present() if each in self._latest]

    def silent(self, now: int) -> tuple[Instrument, ...]:
        """Those that are quiet for longer than their rhythm allows."""
        return tuple(instrument for instrument in self._rhythms if self.feed(instrument, now) is Feed.SILENT)

    def feed(self, instrument: Instrument, now: int) -> Feed:
        """How one of them flows."""
        rhythm = self._rhythms[instrument]
        if instrument in self._absent:
            return Feed.ABSENT
        if rhythm.last is None:
            return Feed.WAITING
        return Feed.SILENT if rhythm.silent(now) else Feed.LIVE


def _older(heard: Heard, known: Heard) -> bool:
    return heard.number is not None and known.number is not None and heard.number < known.number
