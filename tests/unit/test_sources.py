"""Until when a value is known to hold."""

from decimal import Decimal

from msgspec.structs import replace

from services.core.clocks import ExchangeClock, WallClockOffset
from services.core.exchange import SequencedQuote
from services.core.feeds import MAX_REORDER_MS, FeedTracker
from services.core.model import FeedStatus, Instrument, InstrumentFeed, Quote

NOW = 1_800_000_000_000
BTC, PEG = Instrument("BTC", "USDT"), Instrument("USDC", "USDT")


def quote(instrument: Instrument, at: int, number: int | None = None, time: int | None = None) -> SequencedQuote:
    return SequencedQuote(Quote("x", instrument, at, time, bid=Decimal(1), ask=Decimal(2)), number)


def lively_feed(pause: int = 100, until: int = 60_000, holds: float | None = None) -> FeedTracker:
    """BTC comes every `pause` ms, the peg every twenty seconds, until then."""
    sources = FeedTracker((BTC, PEG), 3_000, holds)
    for at in range(0, until + 1, pause):
        sources.on_quote(quote(BTC, at))
        if at % 20_000 == 0:
            sources.on_quote(quote(PEG, at))
    return sources


def feed_view(
    sources: FeedTracker, now: int, since: int = 0, proof: int | None = None
) -> dict[Instrument, InstrumentFeed]:
    return {source.instrument: source for source in sources.snapshot(now, since, now if proof is None else proof)}


def test_quiet_on_a_live_feed_is_no_change() -> None:
    peg = feed_view(lively_feed(), 75_000)[PEG]
    assert (peg.status, peg.received, peg.confirmed) == (FeedStatus.LIVE, 60_000, 75_000)


def test_muted_instrument_is_silent_and_its_value_expires() -> None:
    sources = lively_feed()
    assert feed_view(sources, 62_000)[BTC] == InstrumentFeed(BTC, FeedStatus.LIVE, 60_000, 62_000)
    assert feed_view(sources, 64_000)[BTC] == InstrumentFeed(BTC, FeedStatus.SILENT, 60_000, 60_000)
    assert feed_view(sources, 64_000)[PEG].status is FeedStatus.LIVE
    sources.on_quote(quote(BTC, 90_000))
    assert feed_view(sources, 90_100)[BTC].status is FeedStatus.LIVE


def test_a_dead_connection_vouches_for_nothing_after_its_last_message() -> None:
    assert feed_view(lively_feed(), 62_500, proof=60_050)[PEG].confirmed == 60_050


def test_new_connection_does_not_confirm_values_of_the_old_one() -> None:
    assert feed_view(lively_feed(), 62_500, since=61_000)[PEG].confirmed == 60_000


def test_a_value_holds_no_longer_than_its_exchange_says() -> None:
    sources = FeedTracker((BTC,), 150_000, value_ttl=60_000)
    sources.on_quote(quote(BTC, 500_000, time=490_000))
    assert feed_view(sources, 500_000, proof=0)[BTC].confirmed == 500_000
    sources.on_quote(quote(BTC, 560_000, time=490_000))
    assert feed_view(sources, 560_000, proof=0)[BTC].confirmed == 550_000


def test_value_from_the_future_expires_like_a_new_one() -> None:
    stamps, clock = WallClockOffset(NOW, 0), ExchangeClock(NOW)
    sources = FeedTracker((BTC,), 150_000, 60_000, stamps, clock)
    for at in (0, 30_000, 100_000):
        tick = sources.on_quote(quote(BTC, NOW + at, time=NOW + 3_600_000))
        assert tick == replace(quote(BTC, NOW + at).quote, time=NOW)
    assert feed_view(sources, 100_000, proof=0)[BTC].confirmed == NOW + 60_000


def test_age_of_a_value_follows_the_exchange_clock() -> None:
    stamps, clock = WallClockOffset(NOW, 0), ExchangeClock(NOW)
    clock.on_response(NOW - 180_000, 0, 0, 0)
    sources = FeedTracker((BTC,), 150_000, 60_000, stamps, clock)
    tick = sources.on_quote(quote(BTC, NOW, time=NOW - 190_000))
    assert tick
    assert tick.time == NOW - 10_000
    assert feed_view(sources, 90_000, proof=0)[BTC].confirmed == NOW


def test_ages_do_not_change_when_our_clock_is_set() -> None:
    stamps = WallClockOffset(NOW, 0)
    sources = FeedTracker((BTC,), 3_000, None, stamps)
    assert sources.on_quote(quote(BTC, NOW)) == quote(BTC, NOW).quote
    stamps.update(NOW - 3_600_000 + 1_000, 1_000)
    (tick,) = sources.latest_quotes()
    assert tick.received == NOW - 3_600_000
    assert feed_view(sources, 1_000)[BTC] == InstrumentFeed(BTC, FeedStatus.LIVE, tick.received, tick.received + 1_000)


def test_late_quotes_are_dropped_but_a_new_count_is_followed() -> None:
    sources = lively_feed()
    assert sources.on_quote(quote(BTC, 61_000, 10))
    assert not sources.on_quote(quote(BTC, 61_010, 9))
    assert sources.on_quote(quote(BTC, 61_020, 11))
    assert sources.on_quote(quote(BTC, 61_020 + MAX_REORDER_MS, 3))


def test_the_absent_are_not_collected_until_they_are_back() -> None:
    sources = lively_feed()
    assert sources.set_trading(BTC, False)
    assert not sources.set_trading(BTC, False)
    assert BTC not in sources
    assert sources.traded() == (PEG,)
    assert feed_view(sources, 60_000)[BTC].status is FeedStatus.ABSENT
    assert sources.set_trading(BTC, True)
    assert BTC in sources
    assert not sources.set_trading(Instrument("DOGE", "USDT"), True)


def test_nothing_yet_is_waiting() -> None:
    assert feed_view(FeedTracker((BTC,), 3_000), 10**9)[BTC] == InstrumentFeed(BTC, FeedStatus.WAITING)
