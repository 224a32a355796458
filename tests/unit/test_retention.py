"""How much of each log is kept, as time goes by: what the journals' contract cannot wait for."""

from services.core.journal import Entry
from services.core.journal_retention import FEW, FOLLOWED, FORGOTTEN, Costs, Retention

LASTING, PASSING, OTHER = (f"reading:binance:BTC-USDT:1m:{name}:20" for name in ("sma", "ema", "wma"))


def admitted(retention: Retention, log: str, now: int, count: int = 50) -> int:
    """How many of a log are kept after so many more."""
    return [retention.admit(Entry(log, number, number - 1, "k", "{}", now), now) for number in range(count)][-1]


def test_what_nobody_follows_any_more_gives_its_room_back() -> None:
    """An indicator that is told anyhow is cut; one that was computed for its followers alone goes."""
    retention = Retention(8_000_000, Costs(1_000, 50))
    for log in (LASTING, PASSING):
        retention.follow(log, 0)
        assert admitted(retention, log, 0) == 300
    assert admitted(retention, LASTING, FOLLOWED * 1000 - 1) == 300
    assert retention.trims() == {}
    admitted(retention, OTHER, FOLLOWED * 1000 + 1)
    assert retention.trims() == {LASTING: FEW, PASSING: 0}
    assert admitted(retention, LASTING, FOLLOWED * 1000 + 2) == FEW


def test_a_log_that_is_not_written_to_any_more_goes() -> None:
    retention = Retention(8_000_000, Costs(1_000, 50))
    admitted(retention, "candle:binance:OLD-USDT:1m", 0)
    admitted(retention, "candle:binance:NEW-USDT:1m", FORGOTTEN * 1000)
    assert 0 not in retention.trims().values()
    admitted(retention, "candle:binance:NEW-USDT:1m", FORGOTTEN * 1000 + 1)
    assert retention.trims() == {"candle:binance:OLD-USDT:1m": 0}


def test_each_log_has_less_room_as_they_grow_in_number() -> None:
    retention = Retention(1_000_000, Costs(1_000, 50))
    kept = [admitted(retention, f"candle:binance:S{log}-USDT:1m", 0, 1) for log in range(200)]
    assert kept[0] > kept[50] > kept[199] >= FEW
    assert set(retention.trims().values()) == {kept[199]}
