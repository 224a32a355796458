"""The feed tracker: which quotes are live, and until when a collector confirms them."""

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


def busy_tracker(pause: int = 100, until: int = 60_000, holds: float | None = None) -> FeedTracker:
    """Return a tracker that has had BTC every `pause` ms and PEG every 20 s, until `until`."""
    tracker = FeedTracker((BTC, PEG), 3_000, holds)
    for at in range(0, until + 1, pause):
        tracker.on_quote(quote(BTC, at))
        if at % 20_000 == 0:
            tracker.on_quote(quote(PEG, at))
    return tracker


def feed_view(
    tracker: FeedTracker, now: int, since: int = 0, proof: int | None = None
) -> dict[Instrument, InstrumentFeed]:
    return {source.instrument: source for source in tracker.snapshot(now, since, now if proof is None else proof)}


def test_unchanged_quote_on_a_live_feed_is_confirmed() -> None:
    peg = feed_view(busy_tracker(), 75_000)[PEG]
    assert (peg.status, peg.received, peg.confirmed) == (FeedStatus.LIVE, 60_000, 75_000)


def test_muted_instrument_is_silent_and_its_value_expires() -> None:
    tracker = busy_tracker()
    assert feed_view(tracker, 62_000)[BTC] == InstrumentFeed(BTC, FeedStatus.LIVE, 60_000, 62_000)
    assert feed_view(tracker, 64_000)[BTC] == InstrumentFeed(BTC, FeedStatus.SILENT, 60_000, 60_000)
    assert feed_view(tracker, 64_000)[PEG].status is FeedStatus.LIVE
    tracker.on_quote(quote(BTC, 90_000))
    assert feed_view(tracker, 90_100)[BTC].status is FeedStatus.LIVE


def test_quote_is_confirmed_only_until_the_connections_last_message() -> None:
    assert feed_view(busy_tracker(), 62_500, proof=60_050)[PEG].confirmed == 60_050


def test_new_connection_does_not_confirm_values_of_the_old_one() -> None:
    assert feed_view(busy_tracker(), 62_500, since=61_000)[PEG].confirmed == 60_000


def test_quote_is_confirmed_no_longer_than_its_exchanges_ttl() -> None:
    tracker = FeedTracker((BTC,), 150_000, value_ttl=60_000)
    tracker.on_quote(quote(BTC, 500_000, time=490_000))
    assert feed_view(tracker, 500_000, proof=0)[BTC].confirmed == 500_000
    tracker.on_quote(quote(BTC, 560_000, time=490_000))
    assert feed_view(tracker, 560_000, proof=0)[BTC].confirmed == 550_000


def test_quote_from_the_future_expires_like_a_new_one() -> None:
    stamps, clock = WallClockOffset(NOW, 0), ExchangeClock(NOW)
    tracker = FeedTracker((BTC,), 150_000, 60_000, stamps, clock)
    for at in (0, 30_000, 100_000):
        accepted = tracker.on_quote(quote(BTC, NOW + at, time=NOW + 3_600_000))
        assert accepted == replace(quote(BTC, NOW + at).quote, time=NOW)
    assert feed_view(tracker, 100_000, proof=0)[BTC].confirmed == NOW + 60_000


def test_age_of_a_quote_follows_the_exchange_clock() -> None:
    stamps, clock = WallClockOffset(NOW, 0), ExchangeClock(NOW)
    clock.on_response(NOW - 180_000, 0, 0, 0)
    tracker = FeedTracker((BTC,), 150_000, 60_000, stamps, clock)
    accepted = tracker.on_quote(quote(BTC, NOW, time=NOW - 190_000))
    assert accepted
    assert accepted.time == NOW - 10_000
    assert feed_view(tracker, 90_000, proof=0)[BTC].confirmed == NOW


def test_ages_of_quotes_do_not_change_when_the_wall_clock_is_set() -> None:
    stamps = WallClockOffset(NOW, 0)
    tracker = FeedTracker((BTC,), 3_000, None, stamps)
    assert tracker.on_quote(quote(BTC, NOW)) == quote(BTC, NOW).quote
    stamps.update(NOW - 3_600_000 + 1_000, 1_000)
    (accepted,) = tracker.latest_quotes()
    assert accepted.received == NOW - 3_600_000
    assert feed_view(tracker, 1_000)[BTC] == InstrumentFeed(
        BTC, FeedStatus.LIVE, accepted.received, accepted.received + 1_000
    )


def test_late_quote_is_dropped_but_numbers_that_start_again_are_accepted() -> None:
    tracker = busy_tracker()
    assert tracker.on_quote(quote(BTC, 61_000, 10))
    assert not tracker.on_quote(quote(BTC, 61_010, 9))
    assert tracker.on_quote(quote(BTC, 61_020, 11))
    assert tracker.on_quote(quote(BTC, 61_020 + MAX_REORDER_MS, 3))


def test_absent_instrument_is_not_collected_until_it_trades_again() -> None:
    tracker = busy_tracker()
    assert tracker.set_trading(BTC, False)
    assert not tracker.set_trading(BTC, False)
    assert BTC not in tracker
    assert tracker.traded() == (PEG,)
    assert feed_view(tracker, 60_000)[BTC].status is FeedStatus.ABSENT
    assert tracker.set_trading(BTC, True)
    assert BTC in tracker
    assert not tracker.set_trading(Instrument("DOGE", "USDT"), True)


def test_instrument_without_a_quote_is_waiting() -> None:
    assert feed_view(FeedTracker((BTC,), 3_000), 10**9)[BTC] == InstrumentFeed(BTC, FeedStatus.WAITING)
