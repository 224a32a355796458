"""What waits to be published: quotes are replaced, trades are kept, and what cannot be kept is said."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.core.model import Gap, Instrument, Tick, Trade
from services.core.outbox import News, Outbox

PAIRS = (Instrument("BTC", "USDT"), Instrument("ETH", "USDT"))


def quote(pair: int, at: int) -> Tick:
    return Tick("x", PAIRS[pair], at, bid=Decimal(at))


def trade(pair: int, at: int) -> Trade:
    return Trade("x", PAIRS[pair], at, at, Decimal(at), Decimal(1), at)


step = st.tuples(st.sampled_from(["quote", "trade", "take", "fail"]), st.integers(0, 1))


@given(st.lists(step))
def test_trades_all_pass_in_order_and_of_quotes_the_newest(steps: list[tuple[str, int]]) -> None:
    outbox, sent, put = Outbox(), list[News](), list[Tick | Trade]()
    for at, (what, pair) in enumerate([*steps, ("take", 0)], 1):
        match what:
            case "quote" | "trade":
                put.append(quote(pair, at) if what == "quote" else trade(pair, at))
                outbox.put(put[-1])
            case "take":
                sent += outbox.take()
            case "fail":
                outbox.put_back(outbox.take())
    assert [m for m in sent if isinstance(m, Trade)] == [m for m in put if isinstance(m, Trade)]
    for instrument in PAIRS:
        ours = [m for m in sent if isinstance(m, Tick) and m.instrument == instrument]
        theirs = [m for m in put if isinstance(m, Tick) and m.instrument == instrument]
        assert ours == sorted(ours, key=lambda tick: tick.received)
        assert ours[-1:] == theirs[-1:]
    assert not outbox


def test_a_full_box_loses_the_oldest_trades_and_says_so() -> None:
    outbox = Outbox(limit=3)
    for at in range(1, 7):
        outbox.put(trade(0, at))
    gap, *kept = outbox.take()
    assert isinstance(gap, Gap)
    assert (gap.instrument, gap.since, gap.until) == (PAIRS[0], 1, 3)
    assert kept == [trade(0, 4), trade(0, 5), trade(0, 6)]


def test_much_is_taken_in_portions() -> None:
    outbox = Outbox()
    for at in range(1, 8):
        outbox.put(trade(0, at))
    portions = [outbox.take(3), outbox.take(3), outbox.take(3)]
    assert [len(portion) for portion in portions] == [3, 3, 1]
