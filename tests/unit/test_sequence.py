"""Trades pass once and in order, whatever the wire does to them."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.core.model import Instrument, Trade
from services.core.sequence import REWIND, Sequence


def trade(number: int, received: int = 0) -> Trade:
    return Trade("x", Instrument("BTC", "USDT"), received, received, Decimal(1), Decimal(1), number)


def passed(sequence: Sequence, numbers: list[int]) -> list[int]:
    return [passed.number for number in numbers for passed in sequence.take(trade(number, number), number)]


@given(st.data(), st.integers(2, 60))
def test_late_doubled_and_mixed_trades_come_out_once_and_in_order(data: st.DataObject, count: int) -> None:
    first = 1000
    rest = data.draw(st.permutations(range(first + 1, first + count)))
    doubled = data.draw(st.lists(st.sampled_from(range(first, first + count))))
    sequence = Sequence()
    assert passed(sequence, [first, *rest, *doubled]) == list(range(first, first + count))
    assert not sequence.missing()
    assert sequence.since is None


@given(st.sets(st.integers(1001, 1060), min_size=1))
def test_what_is_missing_is_known_and_can_be_filled(lost: set[int]) -> None:
    sequence, everything = Sequence(), range(1000, 1062)
    out = passed(sequence, [number for number in everything if number not in lost])
    while hole := sequence.missing():
        assert set(hole) <= lost
        out += passed(sequence, list(hole))
    assert out == list(everything)


def test_a_hole_given_up_says_between_which_times() -> None:
    sequence = Sequence()
    assert passed(sequence, [5, 6, 9, 10]) == [5, 6]
    assert (sequence.missing(), sequence.since) == (range(7, 9), 9)
    trades, since, until = sequence.give_up(11)
    assert [passed.number for passed in trades] == [9, 10]
    assert (since, until) == (6, 9)
    assert not sequence.missing()
    assert passed(sequence, [7, 11]) == [11]


def test_a_new_count_is_followed() -> None:
    sequence = Sequence()
    assert passed(sequence, [REWIND * 3, 7, 8]) == [REWIND * 3, 7, 8]
