"""The range of each value from outside, compared with the table in docs/input.md."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from services.core import bounds
from services.core.exchange import InvalidValue, SequencedQuote, validate_events
from services.core.model import (
    Bar,
    Candle,
    CandleGap,
    CandleSource,
    ExchangeStatus,
    FeedGap,
    FeedStatus,
    HighPriorityTask,
    Instrument,
    InstrumentFeed,
    Kline,
    Message,
    NormalPriorityTask,
    Quote,
    Rate,
    RateCandidate,
    Series,
    StoreLookup,
    StoreQuery,
    StoreReply,
    TaskChange,
    Trade,
)
from services.core.timeframes import DAY_MS, MINUTE_MS
from services.core.times import parse
from services.exchanges import EXCHANGES

DOCS = Path(__file__).parents[2] / "docs" / "input.md"
NOW = 1_800_000_000_000
PAIR = Instrument("BTC", "USDT")
ONE = Decimal(1)
TRADE = Trade("binance", PAIR, NOW, NOW - 5, Decimal("97.5"), Decimal("0.1"), 7)
BAR = Bar(NOW - NOW % MINUTE_MS - MINUTE_MS, ONE, Decimal(3), ONE, Decimal(2), ONE, ONE, 1)
KLINE = Kline(Series("binance", PAIR, "1m"), BAR)
HOLE = CandleGap(KLINE.series, BAR.open_time - 5 * MINUTE_MS, BAR.open_time, NOW)
GAP = FeedGap("deribit", NOW - 5, NOW, "it was silent", PAIR)
TICK = Quote("deribit", PAIR, NOW, NOW, bid=ONE, ask=Decimal(2))
STATE = ExchangeStatus(
    "x", NOW, True, "socket", "h", "", NOW, None, 0, False, (InstrumentFeed(PAIR, FeedStatus.LIVE, NOW, NOW),)
)
RATE = Rate(PAIR, NOW, (RateCandidate("x", (), ONE),))
QUERY = StoreQuery("a", StoreLookup.MISSING, KLINE.series, NOW - bounds.MAX_QUERY_CANDLES * MINUTE_MS, NOW - 1, 1)
REPLY = StoreReply(
    "a", (Candle(KLINE.series, BAR, False, CandleSource.TRADES),), ((0, 0), (NOW, NOW + DAY_MS)), (HOLE,), "b"
)
TASKS: tuple[Message, ...] = (HighPriorityTask("a"), NormalPriorityTask("a"), TaskChange("a", "p", 1))
GOOD: tuple[Message, ...] = (TRADE, KLINE, HOLE, GAP, TICK, STATE, RATE, QUERY, REPLY, *TASKS)


def bar(**changes: Any) -> Kline:
    return replace(KLINE, bar=replace(BAR, **changes))


WRONG: list[tuple[str, Message]] = [
    *(
        ("time", replace(TRADE, time=time))
        for time in (0, -1, NOW + bounds.MAX_PROCESS_LEAD_MS + 1, NOW + 365 * DAY_MS, 2**63, 10**400)
    ),
    ("time", replace(TRADE, received=NOW + bounds.MAX_PROCESS_LEAD_MS + 1, time=NOW + bounds.MAX_PROCESS_LEAD_MS + 1)),
    *(("number", replace(TRADE, trade_id=number)) for number in (-1, 2**63, 10**400)),
    *(("count", replace(TRADE, fills=fills)) for fills in (0, -1, 2**63)),
    *(
        (reason, replace(TRADE, **{reason: Decimal(value)}))
        for value in ("0", "-1", "NaN", "sNaN", "Infinity", "1e200000", "1e-200000", "0E200000", "1." + "1" * 40)
        for reason in ("price", "size")
    ),
    *(("name", replace(TRADE, instrument=PAIR._replace(base=base))) for base in ("", "B\0", "B-T", "B T", "B" * 33)),
    *(("name", replace(TRADE, exchange=exchange)) for exchange in ("a\0", "a b", "é", "a" * 33)),
    ("timeframe", replace(KLINE, series=KLINE.series._replace(timeframe="7m"))),
    ("grid", bar(open_time=BAR.open_time + 1)),
    ("time", bar(open_time=BAR.open_time + 365 * DAY_MS)),
    ("time", bar(open_time=-MINUTE_MS)),
    ("time", bar(open_time=2**70 * MINUTE_MS)),
    ("order", bar(high=ONE)),
    ("order", bar(low=Decimal(2))),
    *(("price", bar(open=Decimal(value))) for value in ("NaN", "Infinity", "-1", "0", "1e200000")),
    *(("volume", bar(volume=Decimal(value))) for value in ("NaN", "Infinity", "-1", "1e200000")),
    *(("volume", bar(quote_volume=Decimal(value))) for value in ("NaN", "-0.1", "0E-200000")),
    *(("count", bar(trades=trades)) for trades in (-1, 2**63)),
    ("range", replace(HOLE, since=HOLE.until + MINUTE_MS, until=HOLE.until)),
    ("range", replace(HOLE, since=BAR.open_time - bounds.MAX_GAP_CANDLES * MINUTE_MS)),
    ("time", replace(HOLE, since=1_451_606_400_000, until=4_102_444_800_000)),
    ("grid", replace(HOLE, until=HOLE.until + 1)),
    ("timeframe", replace(HOLE, series=HOLE.series._replace(timeframe=""))),
    ("time", replace(HOLE, detected=2**63)),
    ("text", replace(GAP, reason="left\0")),
    ("text", replace(GAP, reason="x" * 301)),
    ("text", replace(GAP, reason="\ud800")),
    ("range", replace(GAP, since=NOW, until=NOW - 1)),
    ("time", replace(GAP, until=4_102_444_800_000)),
    ("name", replace(GAP, instrument=Instrument("", ""))),
    ("price", replace(TICK, bid=Decimal("NaN"))),
    ("price", replace(TICK, price=Decimal("1e200000"))),
    ("time", replace(TICK, time=2**63)),
    ("time", replace(STATE, time=2**63)),
    ("text", replace(STATE, reason="\x1b[2J")),
    ("price", replace(RATE, candidates=(RateCandidate("x", (), Decimal("1e200000")),))),
    ("name", replace(RATE, direction=Instrument("B\0", "USD"))),
    ("range", replace(QUERY, since=0, until=bounds.LATEST_MS)),
    ("range", replace(QUERY, lookup=StoreLookup.UNVERIFIED, since=QUERY.since - MINUTE_MS)),
    *(("count", replace(QUERY, limit=limit)) for limit in (0, bounds.MAX_LIST_LENGTH + 1)),
    *(("text", replace(message, id="x" * 301)) for message in (QUERY, REPLY)),
    ("text", replace(REPLY, error="no\nline")),
    *(("text", replace(message, id="a\0")) for message in TASKS),
    *(("range", replace(REPLY, ranges=(each,))) for each in ((1, 0), (-1, 0), (0, 2**63))),
    ("count", replace(REPLY, ranges=((0, 0),) * (bounds.MAX_LIST_LENGTH + 1))),
    ("range", replace(REPLY, gaps=(replace(HOLE, since=HOLE.until + MINUTE_MS),))),
    (
        "grid",
        replace(
            REPLY, candles=(Candle(KLINE.series, bar(open_time=BAR.open_time + 1).bar, True, CandleSource.TRADES),)
        ),
    ),
]


@pytest.mark.parametrize("message", GOOD, ids=lambda message: type(message).__name__)
def test_message_in_range_is_accepted(message: Message) -> None:
    assert bounds.find_violation(message, NOW) is None


@pytest.mark.parametrize(("reason", "message"), WRONG)
def test_message_out_of_range_is_refused_with_a_printable_reason(reason: str, message: Message) -> None:
    wrong = bounds.find_violation(message, NOW)
    assert wrong
    assert wrong.reason == reason
    assert bounds.clean_text(wrong.detail) == wrong.detail


def test_docs_list_every_bound_with_its_value() -> None:
    documented = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", DOCS.read_text(), re.MULTILINE))
    known = {name: value for name, value in vars(bounds).items() if name.isupper() and isinstance(value, int)}
    times = {name: parse(text) for name, text in documented.items() if text.endswith("Z")}
    numbers = {
        name: int(text.removesuffix(" ms").replace(",", "")) for name, text in documented.items() if name not in times
    }
    assert {**times, **numbers} == known


ROW = '[1634943780000,"2","3","1","2","21.6",1634943839999,"1313",617,"12.2","745.4","0"]'
DERIBIT = (
    '{"usOut":1800000000000000,"result":{"ticks":[1634943720000,%s,1634943840000],"open":[2,%s,2],"high":[3,3,3],'
    '"low":[1,1,1],"close":[2,2,2],"volume":[1,1,1],"cost":[1,1,1]}}'
)


@pytest.mark.parametrize(
    ("exchange", "instrument", "timeframe", "body"),
    [
        *(
            ("binance", "BTC-USDT", "1m", f"[{ROW},{ROW.replace(old, new, 1)},{ROW}]")
            for old, new in (
                ('"2"', "null"),
                ('"2"', '"NaN"'),
                ('"3"', '"1"'),
                ("21.6", "-1"),
                ("21.6", "1e200000"),
                ("617", "-1"),
                ("1634943780000", "1634943780001"),
                ("1634943780000", "4102444800000"),
                ("1634943780000", "10"),
                ("617", str(2**63)),
                ('"2"', '"Infinity"'),
                (ROW, "null"),
                (ROW, "[]"),
                (ROW, "{}"),
            )
        ),
        *(
            ("deribit", "BTC-USD-PERPETUAL", "1m", DERIBIT % row)
            for row in (
                ("1634943780001", "2"),
                ("1634943780000", "null"),
                ("1634943780000", '"NaN"'),
                ("4102444800000", "2"),
            )
        ),
        ("coingecko", "BTC-USD", "30m", "[[1634943600000,2,3,1,2],[1634945400000,null,3,1,2],[1634947200000,2,3,1,2]]"),
        ("coingecko", "BTC-USD", "30m", "[[1634943600000,2,3,1,2],[1634945400000,2,1,3,2],[1634947200000,2,3,1,2]]"),
    ],
)
def test_invalid_kline_is_dropped_alone(exchange: str, instrument: str, timeframe: str, body: str) -> None:
    ask = EXCHANGES[exchange].klines
    call = ask and ask(Instrument.parse(instrument), timeframe, 0, NOW)
    assert call
    events = validate_events(call.parse(body.encode(), NOW), NOW + bounds.MAX_EXCHANGE_LEAD_MS)
    assert [type(event) for event in events] == [Kline, InvalidValue, Kline]
    (rejected,) = (event for event in events if isinstance(event, InvalidValue))
    assert rejected.subject.startswith(instrument)


def test_invalid_coin_is_dropped_alone() -> None:
    poll, wanted = EXCHANGES["coingecko"].poll, (PAIR._replace(quote="USD"), Instrument("ETH", "USD"))
    assert poll
    (ask,) = poll(wanted, {})
    for bad in ('{"usd":"cheap"}', '{"usd":"NaN"}', '{"usd":1,"last_updated_at":1e200000}', "null", "7"):
        body = f'{{"bitcoin":{bad},"ethereum":{{"usd":2000.5,"last_updated_at":1799999990}}}}'
        events = validate_events(ask.parse(body.encode(), NOW), NOW + bounds.MAX_EXCHANGE_LEAD_MS)
        assert [event.quote.price for event in events if isinstance(event, SequencedQuote)] == [Decimal("2000.5")]
        assert [event.subject for event in events if isinstance(event, InvalidValue)] in (["bitcoin"], ["BTC-USD"])
