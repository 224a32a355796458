"""The trade sequencer passes each trade once and in order."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.core.model import Instrument, Trade
from services.core.trade_sequencer import ID_RESET_DISTANCE, TradeSequencer


def trade(number: int, received: int = 0) -> Trade:
    return Trade("x", Instrument("BTC", "USDT"), received, received, Decimal(1), Decimal(1), number)


def passed_ids(sequence: TradeSequencer, numbers: list[int]) -> list[int]:
    return [passed.trade_id for number in numbers for passed in sequence.push(trade(number, number), number)]


@given(st.data(), st.integers(2, 60))
def test_late_duplicate_and_reordered_trades_pass_once_and_in_order(data: st.DataObject, count: int) -> None:
    first = 1000
    rest = data.draw(st.permutations(range(first + 1, first + count)))
    doubled = data.draw(st.lists(st.sampled_from(range(first, first + count))))
    sequence = TradeSequencer()
    assert passed_ids(sequence, [first, *rest, *doubled]) == list(range(first, first + count))
    assert not sequence.first_gap()
    assert sequence.gap_since is None


@given(st.sets(st.integers(1001, 1060), min_size=1))
def test_gaps_are_exactly_the_lost_trades_and_can_be_filled(lost: set[int]) -> None:
    sequence, everything = TradeSequencer(), range(1000, 1062)
    out = passed_ids(sequence, [number for number in everything if number not in lost])
    while gap := sequence.first_gap():
        assert set(gap) <= lost
        out += passed_ids(sequence, list(gap))
    assert out == list(everything)


def test_skipped_gap_has_the_times_around_it() -> None:
    sequence = TradeSequencer()
    assert passed_ids(sequence, [5, 6, 9, 10]) == [5, 6]
    assert (sequence.first_gap(), sequence.gap_since) == (range(7, 9), 9)
    trades, since, until = sequence.skip_gap(11)
    assert [passed.trade_id for passed in trades] == [9, 10]
    assert (since, until) == (6, 9)
    assert not sequence.first_gap()
    assert passed_ids(sequence, [7, 11]) == [11]


def test_trade_ids_that_start_again_are_accepted() -> None:
    sequence = TradeSequencer()
    assert passed_ids(sequence, [ID_RESET_DISTANCE * 3, 7, 8]) == [ID_RESET_DISTANCE * 3, 7, 8]


def test_minute_of_the_first_trade_is_completed_before_it_passes() -> None:
    """Requested ranges reach back to a trade of an earlier minute; of that minute only the last trade passes."""
    sequence, first = TradeSequencer(lead_size=10), 1_000

    def at(number: int) -> Trade:
        return trade(number, 60_000 + (number - 975) * 1_000)  # the minute begins with 975

    assert sequence.push(at(first), 5) == []
    assert (sequence.first_gap(), sequence.awaits_lead, sequence.gap_since) == (range(990, 1_000), True, 5)
    assert sequence.push(at(first + 1), 6) == []
    requested = list[range]()
    out = list[Trade]()
    while gap := sequence.first_gap():
        requested.append(gap)
        for number in gap:
            out += sequence.push(at(number), 7)
    assert requested == [range(990, 1_000), range(980, 990), range(970, 980)]
    assert [each.trade_id for each in out] == list(range(974, first + 2))
    assert (sequence.awaits_lead, sequence.gap_since, sequence.expected_id) == (False, None, first + 2)


def test_first_trade_passes_without_its_lead_once_that_is_skipped() -> None:
    sequence = TradeSequencer(lead_size=10)
    assert passed_ids(sequence, [1_000, 1_001, 995]) == []
    assert [each.trade_id for each in sequence.skip_lead(9)] == [1_000, 1_001]
    assert not sequence.first_gap()


def test_trade_with_id_zero_needs_no_lead() -> None:
    sequence = TradeSequencer(10)
    assert passed_ids(sequence, [0, 1, 2]) == [0, 1, 2]
    assert (sequence.awaits_lead, sequence.gap_since) == (False, None)
