"""The collector's publish queue: newer quotes replace older ones, and lost trades are reported as a feed gap."""

from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.core.model import FeedGap, Instrument, Quote, Trade
from services.core.publish_queue import Publishable, PublishQueue

PAIRS = (Instrument("BTC", "USDT"), Instrument("ETH", "USDT"))


def quote(pair: int, at: int) -> Quote:
    return Quote("x", PAIRS[pair], at, bid=Decimal(at))


def trade(pair: int, at: int) -> Trade:
    return Trade("x", PAIRS[pair], at, at, Decimal(at), Decimal(1), at)


queue_steps = st.tuples(st.sampled_from(["quote", "trade", "take", "fail"]), st.integers(0, 1))


@given(st.lists(queue_steps))
def test_queue_passes_all_trades_in_order_and_the_newest_quote_of_each_instrument(steps: list[tuple[str, int]]) -> None:
    queue, sent, put = PublishQueue(), list[Publishable](), list[Quote | Trade]()
    for at, (what, pair) in enumerate([*steps, ("take", 0)], 1):
        match what:
            case "quote" | "trade":
                put.append(quote(pair, at) if what == "quote" else trade(pair, at))
                queue.put(put[-1])
            case "take":
                sent += queue.take(at)
            case "fail":
                queue.requeue(queue.take(at))
    assert [m for m in sent if isinstance(m, Trade)] == [m for m in put if isinstance(m, Trade)]
    for instrument in PAIRS:
        ours = [m for m in sent if isinstance(m, Quote) and m.instrument == instrument]
        theirs = [m for m in put if isinstance(m, Quote) and m.instrument == instrument]
        assert ours == sorted(ours, key=lambda tick: tick.received)
        assert ours[-1:] == theirs[-1:]
    assert not queue


def test_full_queue_drops_the_oldest_trades_and_reports_a_feed_gap() -> None:
    queue = PublishQueue(limit=3)
    for at in range(1, 7):
        queue.put(trade(0, at))
    gap, *kept = queue.take(7)
    assert isinstance(gap, FeedGap)
    assert (gap.instrument, gap.since, gap.until) == (PAIRS[0], 1, 3)
    assert kept == [trade(0, 4), trade(0, 5), trade(0, 6)]


def test_take_returns_at_most_size_messages() -> None:
    queue = PublishQueue()
    for at in range(1, 8):
        queue.put(trade(0, at))
    portions = [queue.take(9, size=3) for _ in range(3)]
    assert [len(portion) for portion in portions] == [3, 3, 1]


@given(st.lists(st.tuples(st.integers(1, 80), st.integers(0, 1)), min_size=1))
def test_quotes_of_an_instrument_are_paced_and_the_first_is_ready_at_once(
    steps: list[tuple[int, int]],
) -> None:
    queue, taken, now = PublishQueue(pace=100), list[tuple[int, Instrument]](), 0
    for pause, pair in steps:
        then = now + pause
        while (wait := queue.ms_until_ready(now)) is not None and now + wait <= then:
            now += wait
            taken += [(now, tick.instrument) for tick in queue.take(now) if isinstance(tick, Quote)]
        now = then
        queue.put(quote(pair, now))
        first = not any(instrument == PAIRS[pair] and now - at < 100 for at, instrument in taken)
        assert (queue.ms_until_ready(now) == 0) >= first
    for instrument in PAIRS:
        times = [at for at, each in taken if each == instrument]
        assert all(later - earlier >= 100 for earlier, later in pairwise(times))


def test_trade_is_ready_while_a_quote_is_paced() -> None:
    queue = PublishQueue(pace=100)
    queue.put(quote(0, 1))
    assert queue.take(1) == [quote(0, 1)]
    queue.put(quote(0, 2))
    assert (queue.ms_until_ready(2), queue.take(2)) == (99, [])
    queue.put(trade(0, 3))
    assert (queue.ms_until_ready(3), queue.take(3)) == (0, [trade(0, 3)])
    assert (queue.ms_until_ready(101), queue.take(101), queue.ms_until_ready(101)) == (0, [quote(0, 2)], None)
