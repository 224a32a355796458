"""The pure part of the live streams, as tables: what an entry means for a subscription."""

from collections.abc import Sequence

import pytest

from services.api.streams.channels import Channel
from services.api.streams.client_state import ClientEvent, ClientState, next_state
from services.api.streams.topics import IDLE_TOPIC_TTL_MS, MAX_TOPICS, Action, Subscription, Topics, TopicState
from services.core.journal import JournalEntry
from services.core.model import IndicatorValue, Instrument, Position, Series

DELIVER, SKIP, CATCH_UP, RESET = Action
SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")


def channel(name: str = "courses", key: str = "", topics: Sequence[str] = ("rates",)) -> Channel:
    return Channel(name, tuple(topics), "courses_update", {"channel": name}, key)


def entry(seq: int, prev_seq: int, key: str = "BTC-USD") -> JournalEntry:
    return JournalEntry("rates", seq, prev_seq, key, "{}", 0)


def subscribe(topic: TopicState[str], key: str = "", position: int = 0) -> Subscription[str]:
    subscription = Subscription("a client", channel(key or "courses", key), topic, position=position)
    topic.add(subscription)
    return subscription


@pytest.mark.parametrize(
    ("position", "seq", "prev_seq", "action", "after"),
    [
        (0, 7, 5, DELIVER, 7),  # the first entry, whatever was before it
        (5, 7, 5, DELIVER, 7),  # the next one
        (5, 9, 7, CATCH_UP, 5),  # 7 is missing
        (7, 7, 5, SKIP, 7),  # sent before, by a catch-up that was faster than the bus
        (9, 7, 5, SKIP, 9),
        (5, 7, 0, CATCH_UP, 5),  # the writer has lost its count and continues above
        (9, 7, 0, RESET, 9),  # the same, below what the client has
        (9, 9, 0, RESET, 9),
    ],
)
def test_action_on_an_entry_of_a_topic(position: int, seq: int, prev_seq: int, action: Action, after: int) -> None:
    subscription = subscribe(TopicState("candle"), position=position)
    assert subscription.on_entry(entry(seq, prev_seq)) is action
    assert subscription.position == after


@pytest.mark.parametrize(
    ("position", "entries", "actions", "after"),
    [
        (5, [(7, 5, "BTC-USD")], [DELIVER], 7),
        (5, [(6, 5, "ETH-USD"), (7, 6, "BTC-USD")], [DELIVER], 7),  # the other key has no subscription
        (5, [(8, 7, "BTC-USD")], [CATCH_UP], 5),  # the missing entry may have this key
        (5, [(8, 7, "ETH-USD")], [CATCH_UP], 5),  # also if an entry of another key shows it
        (5, [(5, 4, "BTC-USD")], [SKIP], 5),  # repeated
        (5, [(4, 0, "BTC-USD")], [RESET], 5),
    ],
)
def test_actions_on_entries_for_a_subscription_of_one_key(
    position: int, entries: list[tuple[int, int, str]], actions: list[Action], after: int
) -> None:
    topic = TopicState[str]("rates")
    topic.on_position(Position(5, 4))
    subscription = subscribe(topic, "BTC-USD", position)
    assert [s.on_entry(each) for row in entries for each in [entry(*row)] for s in topic.on_entry(each)] == actions
    assert subscription.position == after


@pytest.mark.parametrize(
    ("entries", "bus_seq", "known_seq", "contiguous"),
    [
        ([(7, 5)], 7, 7, True),  # the first entry from the bus: earlier ones are unknown
        ([(7, 5), (9, 7)], 9, 9, True),
        ([(7, 5), (9, 8)], 9, 9, False),
        ([(7, 5), (9, 8), (10, 9)], 10, 10, True),
        ([(7, 5), (9, 7), (7, 5)], 9, 9, True),  # delivered twice
        ([(7, 5), (3, 0)], 3, 3, False),  # the writer begins again below
    ],
)
def test_heads_of_a_topic_after_entries_of_the_bus(
    entries: list[tuple[int, int]], bus_seq: int, known_seq: int, contiguous: bool
) -> None:
    topic = TopicState[str]("rates")
    for row in entries:
        topic.on_entry(entry(*row))
    assert (topic.bus_seq, topic.known_seq, topic.contiguous) == (bus_seq, known_seq, contiguous)


@pytest.mark.parametrize(
    ("steps", "lost"),
    [
        ([("bus", 7), ("scan", 7), ("scan", 7)], [False, False]),
        ([("bus", 7), ("scan", 9), ("bus", 9), ("scan", 9)], [False, False]),  # the bus is some ms late
        ([("bus", 7), ("scan", 9), ("scan", 9), ("scan", 9)], [False, True, False]),  # the bus has lost 9
        ([("bus", 7), ("scan", 0), ("scan", 0)], [False, False]),  # an empty journal
    ],
)
def test_second_scan_of_the_journal_finds_an_entry_that_the_bus_lost(
    steps: list[tuple[str, int]], lost: list[bool]
) -> None:
    topic = TopicState[str]("rates")
    found = []
    for kind, seq in steps:
        if kind == "scan":
            found.append(topic.on_journal_scan(seq))
        else:
            topic.on_entry(entry(seq, topic.bus_seq))
    assert found == lost


def test_head_of_a_key_is_the_head_of_the_topic_while_the_journal_is_ahead() -> None:
    topic = TopicState[str]("rates")
    subscription = subscribe(topic, "BTC-USD", 5)
    topic.on_entry(entry(5, 4))
    topic.on_entry(entry(6, 5, "ETH-USD"))
    assert (topic.head_of("BTC-USD"), topic.head_of(""), subscription.is_behind) == (5, 6, False)
    topic.on_journal_head(entry(9, 8, "ETH-USD"))
    assert (topic.head_of("BTC-USD"), subscription.is_behind) == (9, True)


def test_snapshot_seq_is_the_buss_and_without_one_the_journals() -> None:
    topic = TopicState[str]("rates")
    topic.on_journal_head(entry(9, 8))
    assert topic.snapshot_seq == 9
    topic.on_entry(entry(7, 6))
    assert (topic.snapshot_seq, topic.known_seq) == (7, 9)


def test_channel_is_shared_until_its_last_release() -> None:
    topics = Topics[str]()
    first, second = channel(), channel()
    assert topics.acquire(first) is first
    assert topics.acquire(second) is first
    topics.release(first)
    assert topics.channels == {"courses": first}
    topics.release(second)
    assert (topics.channels, topics.get("rates").users) == ({}, 0)
    assert topics.acquire(second) is second


@pytest.mark.parametrize(
    ("indicator", "age", "in_use", "stays"),
    [
        ("sma:7", IDLE_TOPIC_TTL_MS + 1, False, False),
        ("sma:7", IDLE_TOPIC_TTL_MS - 1, False, True),
        ("sma:7", IDLE_TOPIC_TTL_MS + 1, True, True),
        ("sma:20", IDLE_TOPIC_TTL_MS + 1, False, True),  # a standard indicator, which is always published
    ],
)
def test_topic_of_a_requested_indicator_is_dropped_when_idle(
    indicator: str, age: int, in_use: bool, stays: bool
) -> None:
    topics, value = Topics[str](), IndicatorValue(SERIES, indicator, 0, {}, closed=False)
    topic = topics.get("reading")
    topic.on_message(value, 1_000)
    if in_use:
        topics.acquire(channel(topics=["reading"]))
    topics.drop_idle(1_000 + age)
    assert (topics.get("reading") is topic) == stays


def test_unused_topics_are_dropped_beyond_a_limit() -> None:
    topics = Topics[str]()
    topics.acquire(channel())
    used = topics.get("rates")
    unused = [topics.get(f"candle:{number}") for number in range(MAX_TOPICS)]
    topics.drop_idle(0)
    assert topics.get("rates") is used
    assert topics.get("candle:0") is not unused[0]


ALL, (SYNCING, LIVE, CATCHING_UP, SLOW, CLOSED) = tuple(ClientState), ClientState


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (ClientEvent.SUBSCRIBED, {SYNCING: LIVE}),
        (ClientEvent.ENTRIES_MISSING, {LIVE: CATCHING_UP}),
        (ClientEvent.CAUGHT_UP, {CATCHING_UP: LIVE}),
        (ClientEvent.BUFFER_FULL, {LIVE: SLOW}),
        (ClientEvent.DRAINED, {SLOW: CATCHING_UP}),
        (ClientEvent.DISCONNECTED, dict.fromkeys(ALL, CLOSED)),
    ],
)
def test_client_state_after_each_event(event: ClientEvent, changes: dict[ClientState, ClientState]) -> None:
    assert {state: next_state(state, event) for state in ALL} == {state: state for state in ALL} | changes
