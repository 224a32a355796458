"""How much of each log is kept, as time goes by: what the journals' contract cannot wait for."""

from services.core.journal import JournalEntry
from services.core.journal_retention import (
    FOLLOWER_TTL_SECONDS,
    TOPIC_TTL_SECONDS,
    UNFOLLOWED_ENTRIES,
    EntryCosts,
    JournalRetention,
)

LASTING, PASSING, OTHER = (f"reading:binance:BTC-USDT:1m:{name}:20" for name in ("sma", "ema", "wma"))


def retained_count(retention: JournalRetention, log: str, now: int, count: int = 50) -> int:
    """How many of a log are kept after so many more."""
    return [retention.add(JournalEntry(log, number, number - 1, "k", "{}", now), now) for number in range(count)][-1]


def test_topic_without_followers_frees_its_space() -> None:
    """An indicator that is told anyhow is cut; one that was computed for its followers alone goes."""
    retention = JournalRetention(8_000_000, EntryCosts(1_000, 50))
    for log in (LASTING, PASSING):
        retention.follow(log, 0)
        assert retained_count(retention, log, 0) == 300
    assert retained_count(retention, LASTING, FOLLOWER_TTL_SECONDS * 1000 - 1) == 300
    assert retention.take_trims() == {}
    retained_count(retention, OTHER, FOLLOWER_TTL_SECONDS * 1000 + 1)
    assert retention.take_trims() == {LASTING: UNFOLLOWED_ENTRIES, PASSING: 0}
    assert retained_count(retention, LASTING, FOLLOWER_TTL_SECONDS * 1000 + 2) == UNFOLLOWED_ENTRIES


def test_a_log_that_is_not_written_to_any_more_goes() -> None:
    retention = JournalRetention(8_000_000, EntryCosts(1_000, 50))
    retained_count(retention, "candle:binance:OLD-USDT:1m", 0)
    retained_count(retention, "candle:binance:NEW-USDT:1m", TOPIC_TTL_SECONDS * 1000)
    assert 0 not in retention.take_trims().values()
    retained_count(retention, "candle:binance:NEW-USDT:1m", TOPIC_TTL_SECONDS * 1000 + 1)
    assert retention.take_trims() == {"candle:binance:OLD-USDT:1m": 0}


def test_each_log_has_less_room_as_they_grow_in_number() -> None:
    retention = JournalRetention(1_000_000, EntryCosts(1_000, 50))
    kept = [retained_count(retention, f"candle:binance:S{log}-USDT:1m", 0, 1) for log in range(200)]
    assert kept[0] > kept[50] > kept[199] >= UNFOLLOWED_ENTRIES
    assert set(retention.take_trims().values()) == {kept[199]}
