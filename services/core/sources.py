"""What a collector knows of each of its instruments: does it flow, and until when is its value known to hold."""

from collections.abc import Iterable

from services.core.exchange import Heard
from services.core.model import Feed, Instrument, Source, Tick
from services.core.rhythm import Rhythm

STRAGGLING = 2_000  # ms; a quote numbered below the last one is late within this time, after it a new count has begun


class Sources:
    """All instruments of one exchange. `floor` (ms) is what is never called silence.

    `holds` (ms): how long a value holds after the exchange's own time for it; None: while nothing newer comes.
    """

    def __init__(self, instruments: Iterable[Instrument], floor: float, holds: float | None = None) -> None:
        self._rhythms = {instrument: Rhythm(floor) for instrument in instruments}
        self._latest: dict[Instrument, Heard] = {}
        self._holds = holds
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

    def heard(self, heard: Heard) -> bool:
        """A quote came; answers whether it is news. False: it is older than the last one."""
        tick, known = heard.tick, self._latest.get(heard.tick.instrument)
        if known and _older(heard, known) and tick.received - known.tick.received < STRAGGLING:
            return False
        self._latest[tick.instrument] = heard
        self._rhythms[tick.instrument] = self._rhythms[tick.instrument].heard(tick.received)
        return True

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
        received = confirmed = latest.tick.received
        if feed is Feed.LIVE and received >= since:
            confirmed = max(received, proof)
        return Source(instrument, feed, received, min(confirmed, self._expiry(latest.tick, confirmed)))

    def _expiry(self, tick: Tick, otherwise: int) -> int:
        return otherwise if self._holds is None or tick.time is None else tick.time + int(self._holds)

    def quotes(self) -> list[Tick]:
        """The last quote of each that the exchange gives."""
        return [self._latest[instrument].tick for instrument in self.present() if instrument in self._latest]

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
