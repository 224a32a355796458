"""How much of each topic the journal retains over time, beyond what its contract tests can wait for."""

from services.core.journal import JournalEntry
from services.core.journal_retention import (
    FOLLOWER_TTL_SECONDS,
    TOPIC_TTL_SECONDS,
    UNFOLLOWED_ENTRIES,
    EntryCosts,
    JournalRetention,
)

STANDARD, REQUESTED, OTHER = (f"reading:binance:BTC-USDT:1m:{name}:20" for name in ("sma", "ema", "wma"))


def retained_count(retention: JournalRetention, topic: str, now: int, count: int = 50) -> int:
    """Append `count` entries to a topic and return how many of it are retained."""
    return [retention.add(JournalEntry(topic, number, number - 1, "k", "{}", now), now) for number in range(count)][-1]


def test_topic_without_followers_frees_its_space() -> None:
    """The topic of a standard indicator is cut; one computed only for its followers is dropped."""
    retention = JournalRetention(8_000_000, EntryCosts(1_000, 50))
    for topic in (STANDARD, REQUESTED):
        retention.follow(topic, 0)
        assert retained_count(retention, topic, 0) == 300
    assert retained_count(retention, STANDARD, FOLLOWER_TTL_SECONDS * 1000 - 1) == 300
    assert retention.take_trims() == {}
    retained_count(retention, OTHER, FOLLOWER_TTL_SECONDS * 1000 + 1)
    assert retention.take_trims() == {STANDARD: UNFOLLOWED_ENTRIES, REQUESTED: 0}
    assert retained_count(retention, STANDARD, FOLLOWER_TTL_SECONDS * 1000 + 2) == UNFOLLOWED_ENTRIES


def test_topic_without_new_entries_is_dropped() -> None:
    retention = JournalRetention(8_000_000, EntryCosts(1_000, 50))
    retained_count(retention, "candle:binance:OLD-USDT:1m", 0)
    retained_count(retention, "candle:binance:NEW-USDT:1m", TOPIC_TTL_SECONDS * 1000)
    assert 0 not in retention.take_trims().values()
    retained_count(retention, "candle:binance:NEW-USDT:1m", TOPIC_TTL_SECONDS * 1000 + 1)
    assert retention.take_trims() == {"candle:binance:OLD-USDT:1m": 0}


def test_topic_retains_fewer_entries_the_more_topics_there_are() -> None:
    retention = JournalRetention(1_000_000, EntryCosts(1_000, 50))
    retained = [retained_count(retention, f"candle:binance:S{topic}-USDT:1m", 0, 1) for topic in range(200)]
    assert retained[0] > retained[50] > retained[199] >= UNFOLLOWED_ENTRIES
    assert set(retention.take_trims().values()) == {retained[199]}
