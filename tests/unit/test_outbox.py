"""What waits to be published: quotes are replaced, trades are kept, and what cannot be kept is said."""

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


outbox_steps = st.tuples(st.sampled_from(["quote", "trade", "take", "fail"]), st.integers(0, 1))


@given(st.lists(outbox_steps))
def test_trades_all_pass_in_order_and_of_quotes_the_newest(steps: list[tuple[str, int]]) -> None:
    outbox, sent, put = PublishQueue(), list[Publishable](), list[Quote | Trade]()
    for at, (what, pair) in enumerate([*steps, ("take", 0)], 1):
        match what:
            case "quote" | "trade":
                put.append(quote(pair, at) if what == "quote" else trade(pair, at))
                outbox.put(put[-1])
            case "take":
                sent += outbox.take(at)
            case "fail":
                outbox.requeue(outbox.take(at))
    assert [m for m in sent if isinstance(m, Trade)] == [m for m in put if isinstance(m, Trade)]
    for instrument in PAIRS:
        ours = [m for m in sent if isinstance(m, Quote) and m.instrument == instrument]
        theirs = [m for m in put if isinstance(m, Quote) and m.instrument == instrument]
        assert ours == sorted(ours, key=lambda tick: tick.received)
        assert ours[-1:] == theirs[-1:]
    assert not outbox


def test_a_full_box_loses_the_oldest_trades_and_says_so() -> None:
    outbox = PublishQueue(limit=3)
    for at in range(1, 7):
        outbox.put(trade(0, at))
    gap, *kept = outbox.take(7)
    assert isinstance(gap, FeedGap)
    assert (gap.instrument, gap.since, gap.until) == (PAIRS[0], 1, 3)
    assert kept == [trade(0, 4), trade(0, 5), trade(0, 6)]


def test_much_is_taken_in_portions() -> None:
    outbox = PublishQueue()
    for at in range(1, 8):
        outbox.put(trade(0, at))
    portions = [outbox.take(9, size=3) for _ in range(3)]
    assert [len(portion) for portion in portions] == [3, 3, 1]


@given(st.lists(st.tuples(st.integers(1, 80), st.integers(0, 1)), min_size=1))
def test_quotes_of_one_instrument_are_spaced_and_the_first_is_sent_at_once(
    steps: list[tuple[int, int]],
) -> None:
    outbox, taken, now = PublishQueue(pace=100), list[tuple[int, Instrument]](), 0
    for pause, pair in steps:
        then = now + pause
        while (wait := outbox.ms_until_ready(now)) is not None and now + wait <= then:
            now += wait
            taken += [(now, tick.instrument) for tick in outbox.take(now) if isinstance(tick, Quote)]
        now = then
        outbox.put(quote(pair, now))
        first = not any(instrument == PAIRS[pair] and now - at < 100 for at, instrument in taken)
        assert (outbox.ms_until_ready(now) == 0) >= first
    for instrument in PAIRS:
        times = [at for at, each in taken if each == instrument]
        assert all(later - earlier >= 100 for earlier, later in pairwise(times))


def test_a_trade_waits_for_no_quote() -> None:
    outbox = PublishQueue(pace=100)
    outbox.put(quote(0, 1))
    assert outbox.take(1) == [quote(0, 1)]
    outbox.put(quote(0, 2))
    assert (outbox.ms_until_ready(2), outbox.take(2)) == (99, [])
    outbox.put(trade(0, 3))
    assert (outbox.ms_until_ready(3), outbox.take(3)) == (0, [trade(0, 3)])
    assert (outbox.ms_until_ready(101), outbox.take(101), outbox.ms_until_ready(101)) == (0, [quote(0, 2)], None)
