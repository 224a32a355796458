"""Analyses over HTTP: computed or read from the analyst's row, cached for all replicas, as new as the candles."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.analysis import schemas
from services.core.analysis import DISCLAIMER, Analysis
from services.core.analysis.analysing import analyse
from services.core.analysis.multi_timeframe import combine_trends
from services.core.indicators import FORMULA_REVISION, to_columns
from services.core.model import Candle
from services.core.timeframes import MINUTE_MS, TIMEFRAMES
from tests.api import BTC, FORMING_OPEN_TIME, ApiReplica, ReplicaSet, StoreFactory, candle, run_replica, store_factory
from tests.waiting import eventually

ANALYSIS_URL = "/api/analysis?symbol=BTCUSDT&timeframe=1m"
YEAR_START_MS = 1_767_225_600_000  # 2026, the last complete year
MULTI_URL = "/api/analysis/BTC-USDT/multi"


@pytest.fixture(scope="module")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StoreFactory]:
    async with store_factory(tmp_path_factory.mktemp("stores")) as make:
        yield make


@pytest.fixture
async def replicas(stores: StoreFactory) -> ReplicaSet:
    return ReplicaSet(await stores())


def rising_candles(count: int, timeframe: str = "1m", step: str = "0.7") -> list[Candle]:
    """Return the newest `count` closed candles and the forming one, with a rising price."""
    frame, series = TIMEFRAMES[timeframe], BTC._replace(timeframe=timeframe)
    last = frame.open_time(FORMING_OPEN_TIME)
    open_times = list(frame.open_times(frame.step_back(last, count), last))
    prices = (str(1000 + place % 7 + place * Decimal(step)) for place in range(len(open_times)))
    return [candle(at, series, price, closed=at < last) for at, price in zip(open_times, prices, strict=True)]


def expected(candles: list[Candle]) -> Analysis:
    return analyse(candles[0].series, to_columns([each for each in candles if each.closed]))


async def get_analysis(replica: ApiReplica, url: str = ANALYSIS_URL) -> dict[str, Any]:
    answer = await replica.get(url)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_response_is_the_analysis_of_the_closed_candles(replicas: ReplicaSet) -> None:
    candles = rising_candles(900)
    await replicas.save(*candles)
    replica = replicas.replica()
    found = await get_analysis(replica)
    schemas.Analysis.model_validate(found, strict=True, extra="forbid")
    true = expected(candles)
    assert (found["symbol"], found["exchange"], found["timeframe"]) == ("BTC-USDT", "binance", "1m")
    assert (found["timestamp"], found["close"]) == (FORMING_OPEN_TIME - MINUTE_MS, true.close)
    assert (found["trend"]["direction"], found["trend"]["strength"]) == ("up", true.trend.strength)
    assert [vote["reason"] for vote in found["trend"]["votes"]] == [vote.reason for vote in true.trend.votes]
    assert found["disclaimer"] == DISCLAIMER
    await replicas.save(replace(candles[-1], bar=replace(candles[-1].bar, close=Decimal(9), low=Decimal(9))))
    replicas.clock.time += 2_000
    assert await get_analysis(replica) == found, "the forming candle changed it"
    assert await get_analysis(replica, ANALYSIS_URL.replace("/api", "/v1")) == found


async def test_missing_start_of_the_pivot_period_is_noted(replicas: ReplicaSet) -> None:
    """Only fourteen hours are stored."""
    await replicas.save(*rising_candles(840), publish=False)
    found = await get_analysis(replicas.replica())
    assert found["pivot_levels"] == []
    assert [note for note in found["notes"] if "pivot" in note] == [
        "no pivot points: the first candle of their period is not stored"
    ]


async def test_pivots_of_weeks_are_made_of_the_days_of_a_year(replicas: ReplicaSet) -> None:
    days = rising_candles(800, "1d")
    await replicas.save(*days, *rising_candles(80, "1w"), publish=False)
    replica = replicas.replica()
    year = [each.bar for each in days if YEAR_START_MS <= each.bar.open_time < YEAR_START_MS + 365 * 1440 * MINUTE_MS]
    point = float((max(bar.high for bar in year) + min(bar.low for bar in year) + year[-1].close) / 3)
    found = await get_analysis(replica, ANALYSIS_URL.replace("1m", "1w"))
    assert {line["name"]: line["price"] for line in found["pivot_levels"]}["p"] == pytest.approx(point)
    url = "/api/indicators?symbol=BTCUSDT&timeframe=1w&indicators=pivots"
    (row,) = (await get_analysis(replica, url))["indicators"]
    assert {level["name"]: level["price"] for level in row["levels"]}["p"] == pytest.approx(point)
    assert row["trusted_from"] is None
    day = next(each for each in days if each.bar.open_time == YEAR_START_MS)
    changed = replace(day, bar=replace(day.bar, high=Decimal(90_000)), revision=1)

    async def has_changed() -> bool:
        replicas.clock.time += 2_000
        lines = (await get_analysis(replica, ANALYSIS_URL.replace("1m", "1w")))["pivot_levels"]
        return next(bool(line["price"] > 2 * point) for line in lines if line["name"] == "p")

    async with run_replica(replica):
        await replicas.save(changed)
        await eventually(has_changed)


async def test_series_without_candles_has_an_unknown_trend(replicas: ReplicaSet) -> None:
    replica = replicas.replica()
    found = await get_analysis(replica)
    assert (found["timestamp"], found["trend"]["direction"], found["candles"]) == (None, "unknown", 0)
    assert "no closed candle" in found["summary"]
    schemas.Multi.model_validate(await get_analysis(replica, MULTI_URL), strict=True, extra="forbid")


async def test_analysts_row_is_served_until_a_correction(replicas: ReplicaSet) -> None:
    candles = rising_candles(700)
    await replicas.save(*candles)
    own = replace(expected(candles), notes=("from the row",))
    await replicas.store.store.save(own)
    replica, late = replicas.replica(), replicas.replica()
    async with run_replica(replica):
        assert (await get_analysis(replica))["notes"] == ["from the row"]
        other = replace(candles[-9].bar, close=candles[-9].bar.close + 3, high=candles[-9].bar.high + 3)
        candles[-9] = replace(candles[-9], bar=other, revision=1)
        await replicas.save(candles[-9])

        async def corrected() -> bool:
            replicas.clock.time += 1_000
            notes: list[str] = (await get_analysis(replica))["notes"]
            return notes == list(expected(candles).notes)

        await eventually(corrected)
        signals = (await get_analysis(replica))["signals"]
        assert [each["rule"] for each in signals] == [each.rule for each in expected(candles).signals]
        assert (await get_analysis(late))["notes"] == list(expected(candles).notes), (
            "the shared cache has the old analysis"
        )


async def test_replicas_share_an_analysis_until_a_new_candle(replicas: ReplicaSet) -> None:
    candles = rising_candles(700)
    await replicas.save(*candles)
    first, second = replicas.replica(), replicas.replica()
    async with run_replica(first), run_replica(second):
        before = await get_analysis(first)
        rows = replicas.store.calls["analyses"]
        assert await get_analysis(second) == before
        assert replicas.store.calls["analyses"] == rows, "the store is read although the cache has it"
        assert (await replicas.cache.get(f"analysis:{{binance:BTC-USDT}}:1m:{FORMULA_REVISION}"))[0]
        replicas.clock.time += MINUTE_MS
        closed = replace(candles[-1], closed=True)
        await replicas.save(closed, candle(FORMING_OPEN_TIME + MINUTE_MS, closed=False))

        async def both_have_the_new_one() -> bool:
            replicas.clock.time += 1_000
            return all([(await get_analysis(replica))["timestamp"] == FORMING_OPEN_TIME for replica in (first, second)])

        await eventually(both_have_the_new_one)


async def test_equal_requests_at_once_are_computed_once(replicas: ReplicaSet) -> None:
    await replicas.save(*rising_candles(700))
    replica = replicas.replica()
    await get_analysis(replica, "/api/symbols")
    before = replicas.store.calls.copy()
    urls = [f"{ANALYSIS_URL}&_={number}" for number in range(50)]
    answers = await asyncio.gather(*(replica.get(url) for url in urls))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert replicas.store.calls["analyses"] == before["analyses"] + 1


async def test_trends_of_several_timeframes_are_combined(replicas: ReplicaSet) -> None:
    hours, days = rising_candles(300, "1h"), rising_candles(300, "1d", "-0.7")
    await replicas.save(*hours, *days)
    replica = replicas.replica()
    found = await get_analysis(replica, f"{MULTI_URL}?timeframes=1d,1h")
    schemas.Multi.model_validate(found, strict=True, extra="forbid")
    assert [(row["timeframe"], row["direction"]) for row in found["timeframes"]] == [("1h", "up"), ("1d", "down")]
    combined = combine_trends([expected(hours), expected(days)])
    assert found["trend"] == {
        "direction": combined.direction,
        "strength": combined.strength,
        "agreement": combined.agreement,
    }
    assert "1h up" in found["summary"]
    default = await get_analysis(replica, "/v1/analysis/binance:btcusdt/multi")
    assert [row["timeframe"] for row in default["timeframes"]] == ["15m", "1h", "4h", "1d"]
    assert default["timeframes"][0]["direction"] == "unknown"


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("/api/analysis?timeframe=1h", "symbol is missing"),
        ("/api/analysis?symbol=BTCUSDT", "timeframe is missing"),
        ("/api/analysis?symbol=BTCUSD&timeframe=1h&exchange=binance", "did you mean BTC-USDT"),
        ("/api/analysis?symbol=BTCUSDT&timeframe=9h", "'9h' does not exist"),
        ("/api/analysis/BTCUSDTT/multi", "did you mean BTC-USDT"),
        (f"{MULTI_URL}?timeframes=1h,7h", "'7h' does not exist"),
        (f"{MULTI_URL}?symbol=ETHUSDT", "there is no parameter 'symbol'"),
        (f"{MULTI_URL}?exchange=binanse", "did you mean binance"),
    ],
)
async def test_wrong_request_gets_a_problem_that_says_what_is_accepted(
    replicas: ReplicaSet, url: str, part: str
) -> None:
    answer = await replicas.replica().get(url)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert part in answer.json()["detail"]


async def test_response_is_compressed_on_request_and_304_for_its_etag(replicas: ReplicaSet) -> None:
    await replicas.save(*rising_candles(700))
    replica = replicas.replica()
    for url in (ANALYSIS_URL, MULTI_URL):
        plain, compressed = await replica.get(url), await replica.get(url, accept_encoding="gzip")
        is_long = url == ANALYSIS_URL
        assert compressed.headers.get("content-encoding") == ("gzip" if is_long else None)
        assert compressed.content == plain.content
        assert plain.headers["cache-control"].startswith("public, max-age=1,")
        assert plain.headers["kurs-exchange"] == "binance"
        again = await replica.get(url, if_none_match=plain.headers["etag"])
        assert (again.status_code, again.content) == (304, b"")
