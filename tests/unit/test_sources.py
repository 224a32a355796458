"""Until when a value is known to hold."""

from decimal import Decimal

from msgspec.structs import replace

from services.core.clocks import ExchangeClock, Stamps
from services.core.exchange import Heard
from services.core.feeds import STRAGGLING, Sources
from services.core.model import Feed, Instrument, Source, Tick

NOW = 1_800_000_000_000
BTC, PEG = Instrument("BTC", "USDT"), Instrument("USDC", "USDT")


def quote(instrument: Instrument, at: int, number: int | None = None, time: int | None = None) -> Heard:
    return Heard(Tick("x", instrument, at, time, bid=Decimal(1), ask=Decimal(2)), number)


def lively(pause: int = 100, until: int = 60_000, holds: float | None = None) -> Sources:
    """BTC comes every `pause` ms, the peg every twenty seconds, until then."""
    sources = Sources((BTC, PEG), 3_000, holds)
    for at in range(0, until + 1, pause):
        sources.heard(quote(BTC, at))
        if at % 20_000 == 0:
            sources.heard(quote(PEG, at))
    return sources


def view(sources: Sources, now: int, since: int = 0, proof: int | None = None) -> dict[Instrument, Source]:
    return {source.instrument: source for source in sources.view(now, since, now if proof is None else proof)}


def test_quiet_on_a_live_feed_is_no_change() -> None:
    peg = view(lively(), 75_000)[PEG]
    assert (peg.feed, peg.received, peg.confirmed) == (Feed.LIVE, 60_000, 75_000)


def test_one_muted_among_others_is_noticed_and_its_value_no_longer_vouched_for() -> None:
    sources = lively()
    assert view(sources, 62_000)[BTC] == Source(BTC, Feed.LIVE, 60_000, 62_000)
    assert view(sources, 64_000)[BTC] == Source(BTC, Feed.SILENT, 60_000, 60_000)
    assert view(sources, 64_000)[PEG].feed is Feed.LIVE
    sources.heard(quote(BTC, 90_000))
    assert view(sources, 90_100)[BTC].feed is Feed.LIVE


def test_a_dead_connection_vouches_for_nothing_after_its_last_message() -> None:
    assert view(lively(), 62_500, proof=60_050)[PEG].confirmed == 60_050


def test_a_new_connection_does_not_vouch_for_what_came_over_the_old_one() -> None:
    assert view(lively(), 62_500, since=61_000)[PEG].confirmed == 60_000


def test_a_value_holds_no_longer_than_its_exchange_says() -> None:
    sources = Sources((BTC,), 150_000, holds=60_000)
    sources.heard(quote(BTC, 500_000, time=490_000))
    assert view(sources, 500_000, proof=0)[BTC].confirmed == 500_000
    sources.heard(quote(BTC, 560_000, time=490_000))
    assert view(sources, 560_000, proof=0)[BTC].confirmed == 550_000


def test_a_value_of_the_future_holds_no_longer_than_one_that_was_just_given() -> None:
    stamps, clock = Stamps(NOW, 0), ExchangeClock(NOW)
    sources = Sources((BTC,), 150_000, 60_000, stamps, clock)
    for at in (0, 30_000, 100_000):
        tick = sources.heard(quote(BTC, NOW + at, time=NOW + 3_600_000))
        assert tick == replace(quote(BTC, NOW + at).tick, time=NOW)
    assert view(sources, 100_000, proof=0)[BTC].confirmed == NOW + 60_000


def test_how_old_a_value_is_follows_from_the_exchanges_clock_not_from_ours() -> None:
    stamps, clock = Stamps(NOW, 0), ExchangeClock(NOW)
    clock.answered(NOW - 180_000, 0, 0, 0)
    sources = Sources((BTC,), 150_000, 60_000, stamps, clock)
    tick = sources.heard(quote(BTC, NOW, time=NOW - 190_000))
    assert tick
    assert tick.time == NOW - 10_000
    assert view(sources, 90_000, proof=0)[BTC].confirmed == NOW


def test_ages_do_not_change_when_our_clock_is_set_and_quotes_are_stamped_anew() -> None:
    stamps = Stamps(NOW, 0)
    sources = Sources((BTC,), 3_000, None, stamps)
    assert sources.heard(quote(BTC, NOW)) == quote(BTC, NOW).tick
    stamps.look(NOW - 3_600_000 + 1_000, 1_000)
    (tick,) = sources.quotes()
    assert tick.received == NOW - 3_600_000
    assert view(sources, 1_000)[BTC] == Source(BTC, Feed.LIVE, tick.received, tick.received + 1_000)


def test_late_quotes_are_dropped_but_a_new_count_is_followed() -> None:
    sources = lively()
    assert sources.heard(quote(BTC, 61_000, 10))
    assert not sources.heard(quote(BTC, 61_010, 9))
    assert sources.heard(quote(BTC, 61_020, 11))
    assert sources.heard(quote(BTC, 61_020 + STRAGGLING, 3))


def test_the_absent_are_not_collected_until_they_are_back() -> None:
    sources = lively()
    assert sources.mark(BTC, False)
    assert not sources.mark(BTC, False)
    assert BTC not in sources
    assert sources.present() == (PEG,)
    assert view(sources, 60_000)[BTC].feed is Feed.ABSENT
    assert sources.mark(BTC, True)
    assert BTC in sources
    assert not sources.mark(Instrument("DOGE", "USDT"), True)


def test_nothing_yet_is_waiting() -> None:
    assert view(Sources((BTC,), 3_000), 10**9)[BTC] == Source(BTC, Feed.WAITING)
