"""Candles over HTTP on SQLite: the exact JSON, ranges, gaps, caches that follow changes, coverage, UDF."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from msgspec.structs import replace

from services.core.candles import empty_bar
from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.model import (
    BackfillProgress,
    Bar,
    Candle,
    CandleGap,
    CandleGapState,
    CandleSource,
    ExchangeStatus,
    FeedGap,
    FeedStatus,
    Instrument,
    InstrumentFeed,
    Leg,
    Rate,
    RateCandidate,
    Series,
    SeriesProgress,
)
from services.core.timeframes import MINUTE_MS, TIMEFRAMES
from tests.api import (
    BTC,
    FORMING_OPEN_TIME,
    NOW,
    ApiReplica,
    ReplicaSet,
    StoreFactory,
    candle,
    exchange_status,
    run_replica,
    store_factory,
)
from tests.waiting import eventually

DAYS = Series("binance", Instrument("ETH", "USDT"), "1d")
CHART_URL = "/api/chart-data?symbol=BTCUSDT&timeframe=1m"


@pytest.fixture(scope="module")
async def empty_store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StoreFactory]:
    """Return a function that makes stores, each on a database of its own."""
    async with store_factory(tmp_path_factory.mktemp("stores")) as make:
        yield make


@pytest.fixture
async def replicas(empty_store: StoreFactory) -> ReplicaSet:
    return ReplicaSet(await empty_store())


def minute_candles(first: int, last: int) -> list[Candle]:
    """Return the candles from `first` to `last` minutes before the forming one, both inclusive."""
    return [
        candle(FORMING_OPEN_TIME - back * MINUTE_MS, price=f"{20_000 + back}") for back in range(first, last - 1, -1)
    ]


def open_time_back(back: int) -> int:
    """Return the open time of the candle `back` minutes before the forming one."""
    return FORMING_OPEN_TIME - back * MINUTE_MS


async def test_response_has_the_documented_shape_and_every_digit(replicas: ReplicaSet) -> None:
    one, replica = candle(FORMING_OPEN_TIME - MINUTE_MS, price="97614.930000000000000001"), replicas.replica()
    prices = (Decimal(text) for text in ("0.00000001", "1E+3", "1E-12", "5.50"))
    bar = Bar(FORMING_OPEN_TIME, next(prices), next(prices), next(prices), next(prices), Decimal(0), Decimal(0), 0)
    await replicas.save(one, Candle(BTC, bar, False, CandleSource.TRADES, 2))
    for path in ("/api/chart-data", "/v1/chart-data"):
        answer = await replica.get(
            f"{path}?symbol=btc-usdt&timeframe=1m&from={FORMING_OPEN_TIME - MINUTE_MS}&to={FORMING_OPEN_TIME}"
        )
        assert answer.text == (
            '{"symbol":"BTC-USDT","timeframe":"1m","candles":['
            '{"timestamp":1799999940000,"open":97614.930000000000000001,"high":97615.930000000000000001,'
            '"low":97613.930000000000000001,"close":97614.930000000000000001,"volume":0.1,"closed":true,"kind":"traded",'
            '"source":"exchange","revision":0},'
            '{"timestamp":1800000000000,"open":0.00000001,"high":1000,"low":0.000000000001,"close":5.5,"volume":0,'
            '"closed":false,"kind":"traded","source":"ticks","revision":2}]}'
        )
        assert answer.headers["kurs-exchange"] == "binance"


@pytest.mark.parametrize(
    "params",
    [
        f"from={FORMING_OPEN_TIME - 3 * MINUTE_MS}&to={FORMING_OPEN_TIME - MINUTE_MS}",
        f"from={FORMING_OPEN_TIME // 1000 - 180}&to={FORMING_OPEN_TIME // 1000 - 60}",
        "from=2027-01-15T07:57:00Z&to=2027-01-15T07:59:59.999Z",
        "from=2027-01-15T10:57:00+03:00&to=2027-01-15T07:59:00",
        f"to={FORMING_OPEN_TIME - 1}&limit=3",
        f"from={FORMING_OPEN_TIME - 3 * MINUTE_MS - 59_999}&limit=3",
        f"symbol=BINANCE:BTC/USDT&exchange=&to={FORMING_OPEN_TIME - 60_000}&from={FORMING_OPEN_TIME - 180_000}",
    ],
)
async def test_symbol_and_times_are_accepted_in_every_form(replicas: ReplicaSet, params: str) -> None:
    await replicas.save(*minute_candles(9, 0))
    url = CHART_URL if "symbol" not in params else "/api/chart-data?timeframe=1m"
    rows = await replicas.replica().get_candles(f"{url}&{params}")
    assert [row["timestamp"] for row in rows] == [FORMING_OPEN_TIME - back * MINUTE_MS for back in (3, 2, 1)]


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ("symbol=BTCUSDD&timeframe=1m", 422, "did you mean BTC-USD or BTC-USDT?"),
        ("symbol=BTCUSDT&timeframe=1m&exchange=kraken", 422, "exchange 'kraken' does not exist; there are: binance"),
        ("symbol=BTCUSDT&timeframe=7m", 422, "timeframe '7m' does not exist; there are: 1m, 3m"),
        ("symbol=BTCUSD&timeframe=1m&exchange=coingecko", 422, "timeframe of coingecko BTC-USD '1m' does not exist"),
        ("symbol=BTCUSDT&timeframe=1m&fill=zero", 422, "there are: none, prev, null"),
        ("timeframe=1m", 400, "symbol is missing: write symbol=BTCUSDT"),
        ("symbol=BTCUSDT", 400, "timeframe is missing"),
        ("symbol=BTCUSDT,ETHUSDT&timeframe=1m", 400, "symbol has 2 values"),
        (
            f"symbol=BTCUSDT&timeframe=1m&from={FORMING_OPEN_TIME}&to={FORMING_OPEN_TIME - 1}",
            422,
            "is after to, 2027-01-15T07:59:59Z",
        ),
        ("symbol=BTCUSDT&timeframe=1m&from=2027-01-15T08:00:31Z", 422, "is in the future: it is 2027-01-15T08:00:30Z"),
        (
            f"symbol=BTCUSDT&timeframe=1m&from={FORMING_OPEN_TIME - 1000 * MINUTE_MS}&to={FORMING_OPEN_TIME}",
            422,
            "has 1001 candles of 1m, at most",
        ),
        ("symbol=BTCUSDT&timeframe=1m&limit=1001", 422, "limit: 1001 is not from 1 to 1000"),
        ("symbol=BTCUSDT&timeframe=1m&limit=-1", 400, "'-1' is not a whole number"),
        ("symbol=BTCUSDT&timeframe=1m&limit=" + "9" * 500, 422, "is not from 1 to 1000"),
        ("symbol=BTCUSDT&timeframe=1m&limit=" + "0" * 20 + "1999999", 422, "is not from 1 to 1000"),
        ("symbol=BTCUSDT&timeframe=1m&from=9999-12-31T23:59:59-23:59", 400, "is after the year 5138"),
        ("symbol=BTCUSDT&timeframe=1m&from=yesterday", 400, "'yesterday' is not a time"),
        ("symbol=BTCUSDT&interval=1m", 400, "there is no parameter 'interval'; there are: from, to, exchange, symbol"),
        ("symbol=BTCUSDT&timeframe=1m&form=0", 400, "did you mean from?"),
        ("symbol=BTCUSDT&timeframe=1m&from=%00", 400, "from: U+0000 is not accepted"),
        ("symbol=BTCUSDT&timeframe=1m&to=1e99", 400, "is not a time"),
        ("symbol=BTCUSDT&timeframe=1m&from=" + "9" * 16, 422, "in the future"),
        ("symbol=BTCUSDT&timeframe=1M&from=0001-01-01T00:00:00%2B14:00", 400, "is before 1970"),
    ],
)
async def test_invalid_query_gets_a_problem_that_says_what_is_accepted(
    replicas: ReplicaSet, query: str, status: int, part: str
) -> None:
    answer = await replicas.replica().get(f"/api/chart-data?{query}")
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert part in problem["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


@hypothesis(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stored=st.sets(st.integers(0, 30)),
    since=st.none() | st.integers(0, 35),
    until=st.integers(0, 35),
    limit=st.none() | st.integers(1, 12),
    fill=st.sampled_from(["none", "prev", "null"]),
)
async def test_candles_of_any_range_are_filled_as_requested_over_any_gaps(  # noqa: PLR0913, PLR0917  the parameters of a query
    empty_store: StoreFactory,
    stored: set[int],
    since: int | None,
    until: int,
    limit: int | None,
    fill: str,
) -> None:
    """Numbers are minutes before the forming candle. The expected rows are found one open time after the other."""
    if since is not None and since < until:
        since, until = until, since
    replicas = ReplicaSet(await empty_store())
    await replicas.save(*(candle(FORMING_OPEN_TIME - back * MINUTE_MS, price=str(1000 + back)) for back in stored))
    params = [f"to={FORMING_OPEN_TIME - until * MINUTE_MS}", f"fill={fill}"]
    params += [f"from={FORMING_OPEN_TIME - since * MINUTE_MS}"] if since is not None else []
    params += [f"limit={limit}"] if limit else []
    rows = await replicas.replica().get_candles("&".join([CHART_URL, *params]))

    inside = sorted((back for back in stored if until <= back <= (35 if since is None else since)), reverse=True)
    inside = inside[-(limit or 1000) :] if since is None else inside[: limit or 1000]
    expected = {back: Decimal(1000 + back) for back in inside}
    if fill != "none" and (inside or since is not None):
        start = inside[0] if since is None else since
        end = inside[-1] if since is not None and len(inside) == limit else max(until, 1)
        for back in range(start, end - 1, -1):
            before = [earlier for earlier in stored if earlier > back]
            if back not in stored and before:
                expected[back] = Decimal(1000 + min(before)) if fill == "prev" else None  # type: ignore[assignment]
    backs = sorted(expected, reverse=True)
    backs = backs[-(limit or 1000) :] if since is None else backs[: limit or 1000]
    assert [(row["timestamp"], row["close"]) for row in rows] == [
        (FORMING_OPEN_TIME - back * MINUTE_MS, expected[back]) for back in backs
    ]
    assert [row["kind"] for row in rows] == ["traded" if back in stored else "missing" for back in backs]


async def test_fill_does_not_iterate_over_years_beyond_the_limit(replicas: ReplicaSet) -> None:
    """Between two candles are eight years of minutes, and before them half a century."""
    years = 8 * 365 * 1440
    await replicas.save(*(candle(open_time_back(back), price=f"{1000 + back}") for back in (years + 1, years, 3, 1)))
    replica, started = replicas.replica(), time.process_time()
    first = await replica.get_candles(f"{CHART_URL}&from=0&limit=5&fill=prev")
    assert [(row["timestamp"], row["kind"]) for row in first[:3]] == [
        (open_time_back(years + 1), "traded"),
        (open_time_back(years), "traded"),
        (open_time_back(years - 1), "missing"),
    ]
    newest = await replica.get_candles(f"{CHART_URL}&fill=prev")
    assert [row["timestamp"] for row in newest] == [open_time_back(back) for back in range(1000, 0, -1)]
    assert [row["close"] for row in newest[-4:]] == [1000 + years, 1003, 1003, 1001]
    assert await replica.get_candles(f"{CHART_URL}&to=0&fill=null") == []
    assert time.process_time() - started < 1


async def test_etag_of_the_plain_or_compressed_response_gets_304(replicas: ReplicaSet) -> None:
    await replicas.save(*minute_candles(200, 1))
    replica = replicas.replica()
    url = f"{CHART_URL}&from={FORMING_OPEN_TIME - 200 * MINUTE_MS}&to={FORMING_OPEN_TIME - 10 * MINUTE_MS}"
    plain, compressed = await replica.get(url), await replica.get(url, accept_encoding="br, gzip")
    assert plain.headers["cache-control"].startswith("public, max-age=60")
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.content == plain.content
    assert int(compressed.headers["content-length"]) < len(plain.content) / 5
    assert "Accept-Encoding" in compressed.headers["vary"]
    assert compressed.headers["etag"] != plain.headers["etag"]
    for tag in (plain.headers["etag"], compressed.headers["etag"], f"W/{plain.headers['etag']}"):
        again = await replica.get(url, if_none_match=tag)
        assert (again.status_code, again.content) == (304, b"")
    refusing = await replica.get(url, accept_encoding="gzip;q=0")
    assert "content-encoding" not in refusing.headers
    assert gzip.decompress(gzip.compress(plain.content)) == refusing.content
    forming = await replica.get(f"{CHART_URL}&from={FORMING_OPEN_TIME - MINUTE_MS}")
    assert forming.headers["cache-control"].startswith("public, max-age=1,")


async def test_closed_candles_are_served_from_caches_until_one_is_revised(replicas: ReplicaSet) -> None:
    """A replica has a cache of its own, and shares another one with all replicas. A revision reaches both."""
    first, second = replicas.replica(), replicas.replica()
    await replicas.save(*minute_candles(2000, 1))
    url = f"{CHART_URL}&from={FORMING_OPEN_TIME - 1900 * MINUTE_MS}&to={FORMING_OPEN_TIME - 1000 * MINUTE_MS}"
    async with run_replica(first), run_replica(second):
        before = await first.get_candles(url)
        assert len(before) == 901
        calls = replicas.store.calls["candles"]
        assert await first.get_candles(url) == before
        assert await second.get_candles(f"{url}&exchange=binance") == before
        assert replicas.store.calls["candles"] == calls, "the candles were read from the store again"
        revised = candle(FORMING_OPEN_TIME - 1500 * MINUTE_MS, price="2", revision=1)
        await replicas.save(revised)

        async def both_have_the_revision() -> bool:
            found = [await replica.get_candles(f"{url}&_={replica is first}") for replica in (first, second)]
            found.append(await first.get_candles(url))
            return all(rows[400]["revision"] == 1 and rows[400]["close"] == 2 for rows in found)

        await eventually(both_have_the_revision)
        (key,) = [key for key in replicas.cache._bodies if key.startswith("candles:{binance:BTC-USDT}:1m:")][:1]
        assert json.loads((await replicas.cache.get(key))[0] or b"[]")


async def test_concurrent_equal_requests_read_the_store_once(replicas: ReplicaSet) -> None:
    await replicas.save(*minute_candles(20, 0))
    replica = replicas.replica()
    await replica.get_candles(CHART_URL)
    calls, replicas.clock.time = replicas.store.calls["latest_candles"], replicas.clock.time + 5_000
    answers = await asyncio.gather(*(replica.get(CHART_URL) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert replicas.store.calls["latest_candles"] == calls + 1


async def test_forming_candle_is_cached_for_a_second(replicas: ReplicaSet) -> None:
    replica = replicas.replica()
    await replicas.save(candle(FORMING_OPEN_TIME, price="1"))
    assert (await replica.get_candles(CHART_URL))[-1]["close"] == 1
    await replicas.save(candle(FORMING_OPEN_TIME, price="2"))
    replicas.clock.time += 1_000
    assert (await replica.get_candles(CHART_URL))[-1]["close"] == 2


async def test_ended_candle_that_was_never_closed_is_left_out(replicas: ReplicaSet) -> None:
    """Its last parts were lost. The exchange's clock, which may be behind, decides what is forming."""
    hours = BTC._replace(timeframe="1h")
    hour = FORMING_OPEN_TIME - FORMING_OPEN_TIME % 3_600_000
    stale = [candle(hour - 3_600_000 * back, hours, closed=False) for back in (5, 2)]
    closed = [candle(hour - 3_600_000 * back, hours) for back in (6, 4, 3)]
    await replicas.save(
        *stale, *closed, candle(open_time_back(5), price="1"), candle(open_time_back(4), price="9", closed=False)
    )
    replica = replicas.replica()
    span = f"&from={open_time_back(600)}&to={NOW}"
    for more in ("", "&limit=3", span, f"{span}&limit=9"):
        rows = await replica.get_candles(f"/api/chart-data?symbol=BTCUSDT&timeframe=1h{more}")
        assert [each["timestamp"] for each in rows] == [each.bar.open_time for each in closed]
        assert [each["timestamp"] for each in await replica.get_candles(f"{CHART_URL}{more}")] == [open_time_back(5)]
    for more in (f"from={open_time_back(600) // 1000}&to={NOW // 1000}", f"countback=3&to={NOW // 1000}"):
        bars = (await replica.get(f"/udf/history?symbol=BTCUSDT&resolution=60&{more}")).json()
        assert bars["t"] == [each.bar.open_time // 1000 for each in closed]
    values = (await replica.get("/api/indicators?symbol=BTCUSDT&timeframe=1h&indicators=sma:2")).json()
    assert values["timestamps"] == [each.bar.open_time for each in closed]
    filled = await replica.get_candles(f"{CHART_URL}&from={open_time_back(5)}&fill=prev")
    assert [(each["kind"], each["close"]) for each in filled] == [("traded", 1)] + [("missing", 1)] * 4

    behind = exchange_status("binance", NOW)
    replica.deps.hub.apply(msgspec.structs.replace(behind, clock_offset=-4 * MINUTE_MS))
    (first, forming) = await replica.get_candles(f"{CHART_URL}&limit=2")
    assert (first["closed"], forming["closed"], forming["timestamp"]) == (True, False, open_time_back(4))


async def test_symbols_and_timeframes_are_listed_also_those_imported_meanwhile(replicas: ReplicaSet) -> None:
    replica = replicas.replica()
    async with run_replica(replica):
        symbols = (await replica.get("/api/symbols")).json()["symbols"]
        assert symbols[0] == {
            "symbol": "BTC-USDT",
            "exchange": "binance",
            "base": "BTC",
            "quote": "USDT",
            "contract": None,
            "timeframes": list(TIMEFRAMES),
        }
        assert {"BTC-USD-PERPETUAL", "ETH-USDT"} <= {symbol["symbol"] for symbol in symbols}
        assert "deribit" in {symbol["exchange"] for symbol in symbols}
        assert (await replicas.cache.get("symbols:list"))[0]
        imported = Series("binance", Instrument("SOL", "EUR"), "1h")
        assert (await replica.get("/api/chart-data?symbol=SOLEUR&timeframe=1h")).status_code == 422
        await replicas.save(candle(FORMING_OPEN_TIME - 3600_000, imported))
        replicas.clock.time += 1_000
        assert len(await replica.get_candles("/api/chart-data?symbol=SOLEUR&timeframe=1h")) == 1
        listed = (await replica.get("/api/symbols")).json()["symbols"]
        assert {"SOL-EUR"} == {each["symbol"] for each in listed} - {each["symbol"] for each in symbols}
    timeframes = (await replica.get("/v1/timeframes")).json()["timeframes"]
    assert [each["timeframe"] for each in timeframes] == list(TIMEFRAMES)
    assert timeframes[-1]["milliseconds"] is None


async def test_unknown_symbols_are_refused_without_a_query_to_the_store(replicas: ReplicaSet) -> None:
    replica = replicas.replica()
    async with run_replica(replica):
        assert len((await replica.get("/api/symbols")).json()["symbols"]) > 1
        replicas.store.calls.clear()
        for number in range(50):
            replicas.clock.time += 1_100
            wrong = f"/api/chart-data?timeframe=1m&symbol=U{number}" if number % 2 else f"/udf/symbols?symbol=U{number}"
            assert "does not exist" in (await replica.get(wrong)).text
        assert replicas.store.calls.keys() <= {"count_dead_letters"}, "an unknown symbol was looked up in the store"


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("from=0", "name a symbol"),
        ("symbol=BTCUSDT&timeframe=1m&from=2020-01-01", "at most 600000"),
        ("exchange=binance&from=2020-01-01", "shorter range"),
    ],
)
async def test_too_long_a_range_of_coverage_is_refused_before_any_query(
    replicas: ReplicaSet, query: str, part: str
) -> None:
    replica = replicas.replica()
    answer = await replica.get(f"/api/candles/coverage?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad-range")
    assert part in answer.json()["detail"]
    assert not replicas.store.calls["coverage"]
    assert (await replica.get("/api/candles/coverage?symbol=BTCUSDT&timeframe=1d&from=0")).status_code == 200


async def test_concurrent_coverage_requests_read_the_stored_series_once(replicas: ReplicaSet) -> None:
    replica = replicas.replica()
    await replica.get("/api/symbols")
    replicas.store.calls.clear()
    names = ("1m", "5m", "15m", "1h", "4h", "1d")
    answers = await asyncio.gather(*(replica.get(f"/api/candles/coverage?timeframe={name}") for name in names))
    assert {answer.status_code for answer in answers} == {200}
    assert (replicas.store.calls["series"], replicas.store.calls["candle_gaps"]) == (1, 1)


async def test_coverage_has_every_gap_with_its_reasons(replicas: ReplicaSet) -> None:
    missing_minutes = {40, 41, 42, 20, 10, 11, 5}
    stored = [
        each
        for each in minute_candles(100, 0)
        if (FORMING_OPEN_TIME - each.bar.open_time) // MINUTE_MS not in missing_minutes
    ]
    await replicas.save(
        *stored,
        candle(open_time_back(60), price="1", revision=1),
        Candle(BTC, empty_bar(open_time_back(61), Decimal(7)), True, CandleSource.EXCHANGE),
        CandleGap(
            BTC,
            open_time_back(80),
            open_time_back(71),
            NOW - 9,
            CandleGapState.REPAIRED,
            NOW - 8,
            CandleSource.EXCHANGE,
        ),
        CandleGap(BTC, open_time_back(42), open_time_back(41), NOW - 7),
        CandleGap(BTC, open_time_back(20), open_time_back(20), NOW - 6, CandleGapState.ABSENT, NOW - 5),
        FeedGap("binance", open_time_back(42) + 5, open_time_back(41), "the connection was lost"),
        FeedGap("binance", open_time_back(42) + 5, open_time_back(41), "another instrument's", DAYS.instrument),
    )
    replica, silence = replicas.replica(), "binance: its collector has not reported"
    replica.deps.hub.exchange_statuses.clear()
    url = "/api/candles/coverage?symbol=BTCUSDT&timeframe=1m"
    answer = (await replica.get(f"{url}&from={open_time_back(90)}&to={NOW}")).json()
    counts = {name: answer[name] for name in ("expected", "present", "missing", "repaired", "empty", "revised")}
    assert counts == {"expected": 90, "present": 83, "missing": 7, "repaired": 10, "empty": 1, "revised": 1}
    found = [(gap["from"], gap["to"], gap["state"], gap["candles"], gap["reasons"]) for gap in answer["gaps"]]
    assert found == [
        (open_time_back(80), open_time_back(71), "repaired", 10, []),
        (open_time_back(42), open_time_back(41), "open", 2, ["the connection was lost", silence]),
        (open_time_back(40), open_time_back(40), "unnoticed", 1, [silence]),
        (open_time_back(20), open_time_back(20), "absent", 1, []),
        (open_time_back(11), open_time_back(10), "unnoticed", 2, [silence]),
        (open_time_back(5), open_time_back(5), "unnoticed", 1, [silence]),
    ]
    repaired = answer["gaps"][0]
    assert (repaired["noticed"], repaired["settled"], repaired["origin"]) == (NOW - 9, NOW - 8, "exchange")
    wrong = (await replica.get("/api/candles/coverage?exchange=deribitt")).json()
    assert "did you mean deribit" in wrong["detail"]
    only = (await replica.get("/api/candles/coverage?exchange=deribit&timeframe=1m")).json()["series"]
    assert {(r["exchange"], r["timeframe"]) for r in only} == {("deribit", "1m")}
    none = await replica.get("/api/candles/coverage?exchange=coingecko&symbol=BTCUSD&timeframe=1m")
    assert "timeframe of coingecko BTC-USD '1m' does not exist; there are: 30m, 1h" in none.json()["detail"]


@hypothesis(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.integers(1, 60)),
    st.lists(st.tuples(st.integers(1, 70), st.integers(0, 20), st.sampled_from(CandleGapState)), max_size=6),
    st.tuples(st.integers(1, 60), st.integers(0, 60)),
)
async def test_coverage_counts_each_candle_once_whatever_gaps_are_registered(
    empty_store: StoreFactory,
    missing_minutes: set[int],
    registered: list[tuple[int, int, CandleGapState]],
    span: tuple[int, int],
) -> None:
    """Gaps may overlap, exceed the range, and have candles by now."""
    replicas = ReplicaSet(await empty_store())
    stored = [
        each
        for each in minute_candles(60, 0)
        if (FORMING_OPEN_TIME - each.bar.open_time) // MINUTE_MS not in missing_minutes
    ]
    gaps = [
        CandleGap(BTC, open_time_back(back), open_time_back(max(1, back - more)), NOW, state)
        for back, more, state in registered
    ]
    await replicas.save(*stored, *gaps)
    since, until = open_time_back(span[0]), open_time_back(max(0, span[0] - span[1]))
    url = f"/api/candles/coverage?symbol=BTCUSDT&timeframe=1m&from={since}&to={until}"
    answer = (await replicas.replica().get(url)).json()
    missing = {opening for gap in answer["gaps"] if gap["state"] != "repaired" for opening in gap_open_times(gap)}
    assert answer["expected"] == answer["present"] + answer["missing"]
    assert answer["missing"] == sum(gap["candles"] for gap in answer["gaps"] if gap["state"] != "repaired")
    assert missing == {open_time_back(back) for back in missing_minutes if since <= open_time_back(back) <= until}


def gap_open_times(gap: dict[str, int]) -> range:
    return range(gap["from"], gap["to"] + 1, MINUTE_MS)


async def test_coverage_without_a_query_lists_configured_series_with_reasons(replicas: ReplicaSet) -> None:
    """A series begins where the exchange's candles begin: those before the first stored candle are absent."""
    imported = Series("binance", Instrument("SOL", "EUR"), "1h")
    hours = [candle(FORMING_OPEN_TIME - 3_600_000 * back, imported) for back in (9, 2, 1)]
    await replicas.save(
        *minute_candles(100, 0),
        *hours,
        CandleGap(BTC, open_time_back(3000), open_time_back(101), NOW, CandleGapState.ABSENT, NOW),
    )
    replica = replicas.replica()
    sources = (InstrumentFeed(BTC.instrument, FeedStatus.LIVE), InstrumentFeed(DAYS.instrument, FeedStatus.ABSENT))
    minutes_to_go = SeriesProgress(BTC.instrument, "5m", open_time_back(5000), 1000, 900, "binance.test answers 400")
    progress = BackfillProgress(9000, 4000, (minutes_to_go,))
    for name, state in {
        "binance": ExchangeStatus("binance", NOW, True, "socket", "", "", 0, NOW, 0, False, sources, progress),
        "deribit": ExchangeStatus("deribit", NOW, False, "none", "", "deribit.test answers 403", 0, NOW, 0, False),
    }.items():
        replica.deps.hub.exchange_statuses[name] = state
    everything = (await replica.get("/v1/candles/coverage")).json()
    rows = {(row["exchange"], row["symbol"], row["timeframe"]): row for row in everything["series"]}
    first = rows["binance", "BTC-USDT", "1m"]
    assert (first["expected"], first["from"], first["present"]) == (100, open_time_back(100), 100)
    assert rows["binance", "ETH-USDT", "1m"]["expected"] == 1000
    assert rows["binance", "ETH-USDT", "1M"]["from"] >= EARLIEST_CANDLE_MS
    assert rows["coingecko", "BTC-USD", "30m"]["expected"] == 48, "CoinGecko has a day of half hours"
    assert ("coingecko", "BTC-USD", "1h") not in rows, "hours are rolled up from half hours"
    reasons: dict[tuple[str, str], set[str]] = {}
    for gap in everything["gaps"]:
        reasons.setdefault((gap["exchange"], gap["symbol"]), set()).update(
            gap["reasons"] if gap["state"] != "absent" else ()
        )
    assert reasons["binance", "BTC-USDT"] == {
        "history is being loaded: 900 candles to go",
        "binance: binance.test answers 400",
    }
    loading = {name for (exchange, symbol, name), row in rows.items() if row["loading"] and exchange == "binance"}
    assert loading == {"5m"}
    assert "binance does not trade it" in reasons["binance", "ETH-USDT"]
    assert "deribit: deribit.test answers 403" in reasons["deribit", "BTC-USD-PERPETUAL"]
    assert reasons["binance", "SOL-EUR"] == {"no collector has it: name it in KURS_SYMBOLS, or import it"}
    (gap,) = [gap for gap in everything["gaps"] if gap["symbol"] == "SOL-EUR" and gap["timeframe"] == "1h"]
    assert gap["candles"] == 6


async def test_coverage_of_roll_ups_names_the_timeframe_that_is_missing(replicas: ReplicaSet) -> None:
    perpetual = Series("deribit", Instrument("BTC", "USD", "PERPETUAL"), "4h")  # which Deribit does not have
    last = TIMEFRAMES["4h"].open_time(FORMING_OPEN_TIME)
    await replicas.save(*(candle(last - back * 14_400_000, perpetual) for back in (3, 1)))
    params = f"symbol=BTC-USD-PERPETUAL&timeframe=4h&from={last - 3 * 14_400_000}&to={last - 1}"
    (gap,) = (await replicas.replica().get(f"/api/candles/coverage?{params}")).json()["gaps"]
    assert gap["reasons"] == ["deribit has no 4h: it is rolled up from 2h, and some are missing"]


async def scroll_back(replica: ApiReplica, symbol: str, resolution: str, countback: int | None) -> list[int]:
    """Scroll back to the beginning as a chart does, and return the open times. Fail if there is no end."""
    step, end, times = 50 * 60, NOW // 1000 + 60, list[int]()
    for _ in range(100):
        params = f"symbol={symbol}&resolution={resolution}&from={end - step}&to={end}"
        answer = (await replica.get(f"/udf/history?{params}{f'&countback={countback}' if countback else ''}")).json()
        if answer["s"] == "ok":
            assert len({len(answer[column]) for column in "tohlcv"}) == 1
            times, end = answer["t"] + times, answer["t"][0] if countback else end - step
        elif "nextTime" in answer:
            assert answer["nextTime"] < end - step
            end = answer["nextTime"] + 1
        else:
            return times
    raise AssertionError("scrolling back never ended")


@pytest.mark.parametrize("countback", [None, 37, 5000])
async def test_scrolling_back_returns_every_bar_once_and_ends(replicas: ReplicaSet, countback: int | None) -> None:
    """The series has a gap that is longer than one request's range."""
    stored = [*minute_candles(2600, 2400), *minute_candles(300, 0)]
    await replicas.save(*stored)
    times = await scroll_back(replicas.replica(), "BINANCE:BTC-USDT", "1", countback)
    assert times == [each.bar.open_time // 1000 for each in stored]


async def test_udf_quotes_have_current_values_only(replicas: ReplicaSet) -> None:
    """TradingView's watch lists send this request."""
    day = FORMING_OPEN_TIME - FORMING_OPEN_TIME % 86_400_000
    days, eth = BTC._replace(timeframe="1d"), DAYS._replace(timeframe="1m")
    await replicas.save(candle(day - 86_400_000, days, "96000"), candle(day, days, "97000.5", closed=False))
    await replicas.save(
        candle(FORMING_OPEN_TIME, price="97200.10"), candle(FORMING_OPEN_TIME - 5 * MINUTE_MS, eth, "3000")
    )
    replica = replicas.replica()
    value, expires = Decimal("97200.2"), NOW + 5_000
    leg = Leg("binance", BTC.instrument, value, NOW, NOW, expires, True, bid=value - Decimal("0.15"), ask=value)
    cheap = Leg("coingecko", Instrument("BTC", "USD"), Decimal(97_111), NOW, NOW, expires, True)
    candidates = (RateCandidate("binance", (leg,), value), RateCandidate("coingecko", (cheap,), cheap.value))
    replica.deps.hub.apply(Rate(Instrument("BTC", "USD"), NOW, candidates))
    names = ["BINANCE:BTCUSDT", "btc-usdt", "BINANCE:ETHUSDT", "COINGECKO:BTCUSD", "NOSUCH"]
    answer = await replica.get(f"/udf/quotes?symbols={'%2C'.join(names)}")
    quotes = json.loads(answer.text, parse_float=str, parse_int=str)
    assert (quotes["s"], [each["n"] for each in quotes["d"]]) == ("ok", names)
    btc, again, quiet, price, wrong = quotes["d"]
    assert btc["v"] == again["v"]
    assert btc["v"] == {
        **{"short_name": "BTC-USDT", "exchange": "BINANCE", "original_name": "BINANCE:BTC-USDT"},
        **{"description": "BTC in USDT", "lp": "97200.1", "ch": "1200.1", "chp": "1.2501"},
        **{"open_price": "97000.5", "high_price": "97001.5", "low_price": "96999.5", "prev_close_price": "96000"},
        **{"volume": "0.1", "bid": "97200.05", "ask": "97200.2", "spread": "0.15"},
    }
    params = {"short_name", "exchange", "original_name", "description"}
    assert (quiet["v"].keys(), price["v"].keys()) == (
        params,
        params | {"lp"},
    )  # a candle of five minutes ago is not current
    assert price["v"]["lp"] == "97111"
    assert (wrong["s"], wrong["v"], "does not exist" in wrong["errmsg"]) == ("error", {}, True)
    replicas.clock.time += 6_000
    (later,) = (await replica.get("/udf/quotes?symbols=BINANCE:BTCUSDT")).json()["d"]
    assert not {"bid", "ask", "spread"} & later["v"].keys()
    replicas.clock.time += 2 * 86_400_000
    (much_later,) = (await replica.get("/udf/quotes?symbols=BINANCE:BTCUSDT")).json()["d"]
    assert much_later["v"].keys() == params


async def test_udf_accepts_symbols_and_resolutions_in_every_spelling(replicas: ReplicaSet) -> None:
    await replicas.save(
        *minute_candles(5, 0), *(replace(each, series=BTC._replace(timeframe="1M")) for each in minute_candles(0, 0))
    )
    replica = replicas.replica()
    for query in ("BINANCE:BTCUSDT", "binance:btc-usdt", "BTC/USDT&exchange=binance"):
        assert [each["ticker"] for each in (await replica.get(f"/udf/search?query={query}")).json()] == [
            "BINANCE:BTC-USDT"
        ]
    assert (await replica.get("/udf/search?query=DERIBIT:BTCUSDT")).json() == []
    for resolution, bars in {"1": 6, "1m": 6, "1M": 1, "M": 1, "1H": 0, "60": 0, "1h": 0, "d": 0}.items():
        query = f"symbol=BTCUSDT&resolution={resolution}&from={open_time_back(10) // 1000}&to={NOW // 1000}&countback=0"
        answer = (await replica.get(f"/udf/history?{query}")).json()
        assert (resolution, len(answer.get("t", ()))) == (resolution, bars)
        assert answer["s"] == ("ok" if bars else "no_data")


async def test_udf_endpoints_respond_as_charts_expect(replicas: ReplicaSet) -> None:
    days = [
        candle(opening, DAYS, "3290.125")
        for opening in range(
            FORMING_OPEN_TIME - FORMING_OPEN_TIME % 86_400_000 - 5 * 86_400_000, FORMING_OPEN_TIME, 86_400_000
        )
    ]
    await replicas.save(
        *days,
        candle(FORMING_OPEN_TIME, price="0.10"),
        CandleGap(BTC, FORMING_OPEN_TIME - 5 * MINUTE_MS, FORMING_OPEN_TIME - 4 * MINUTE_MS, NOW),
    )
    replica = replicas.replica()
    config = (await replica.get("/udf/config")).json()
    assert config["supported_resolutions"][:4] == ["1", "3", "5", "15"]
    assert config["supported_resolutions"][-4:] == ["1D", "3D", "1W", "1M"]
    (found,) = (await replica.get("/udf/search?query=eth-USDT&type=crypto&exchange=BINANCE&limit=30")).json()
    assert found["ticker"] == "BINANCE:ETH-USDT"
    symbol = (await replica.get(f"/udf/symbols?symbol={found['ticker']}")).json()
    assert (symbol["name"], symbol["session"], symbol["timezone"], symbol["minmov"]) == (
        "ETH-USDT",
        "24x7",
        "Etc/UTC",
        1,
    )
    assert (await replica.get("/udf/symbols?symbol=BTCUSDT")).json()["pricescale"] == 10
    history = await replica.get("/udf/history?symbol=ETHUSDT&resolution=D&from=0&to=1900000000")
    assert '"c":[3290.125,3290.125' in history.text
    assert len(history.json()["t"]) == 6
    for ends in ("from=-99999999&to=-9999", "from=-9999&to=0"):  # charts of months scroll back to such times
        assert (await replica.get(f"/udf/history?symbol=ETHUSDT&resolution=M&{ends}")).json() == {"s": "no_data"}
    coarse = (await replica.get("/udf/symbols?symbol=COINGECKO:BTC-USD")).json()
    assert coarse["supported_resolutions"][:2] == ["30", "60"]
    assert (coarse["intraday_multipliers"][0], coarse["has_daily"]) == ("30", True)
    assert (await replica.get("/udf/time")).text == str(NOW // 1000)
    (mark,) = (await replica.get(f"/udf/marks?symbol=BTCUSDT&resolution=1&from=0&to={NOW // 1000}")).json()
    assert (mark["time"], mark["color"]) == ((FORMING_OPEN_TIME - 5 * MINUTE_MS) // 1000, "red")
    for query, part in {
        "symbols?symbol=NOSUCH": "does not exist",
        "history?symbol=BTCUSDT&resolution=7&from=0&to=1": "there are: 1, 3, 5",
        "history?symbol=BTCUSDT&resolution=1&from=x&to=1": "not a time",
        "history?symbol=COINGECKO:BTCUSD&resolution=1&from=0&to=1": "there are: 30m, 1h",
        "history?resolution=1": "symbol is missing",
        "quotes": "symbols is missing",
        f"quotes?symbols={','.join(map(str, range(51)))}": "at most 50",
    }.items():
        answer = await replica.get(f"/udf/{query}")
        assert (answer.json()["s"], answer.headers["cache-control"]) == ("error", "no-store")
        assert part in answer.json()["errmsg"]
