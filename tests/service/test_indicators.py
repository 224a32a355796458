"""Indicators over HTTP on SQLite: the same values for any range, and new ones after a candle changes."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from services.core import indicators
from services.core.errors import Unavailable
from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.indicators import CATALOG
from services.core.model import Bar, Candle, CandleSource, Series
from services.core.timeframes import MINUTE_MS, TIMEFRAMES
from tests.api import BTC, FORMING_OPEN_TIME, ApiReplica, ReplicaSet, StoreFactory, run_replica, store_factory
from tests.waiting import eventually

DEEP_CANDLES = 12_000  # minutes: more than a week, the anchor of OBV
ALL_INDICATORS = ",".join(CATALOG)
URL = "/api/indicators?symbol=BTCUSDT&timeframe=1m&indicators="


@pytest.fixture(scope="module")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StoreFactory]:
    async with store_factory(tmp_path_factory.mktemp("stores")) as make:
        yield make


@pytest.fixture
async def replicas(stores: StoreFactory) -> ReplicaSet:
    return ReplicaSet(await stores())


@pytest.fixture(scope="module")
async def deep(stores: StoreFactory) -> ReplicaSet:
    """A replica set with a long history in which a day and single candles are missing."""
    replicas = ReplicaSet(await stores())
    await replicas.save(*(each for each in MARKET if each.bar.open_time in STORED_OPEN_TIMES), publish=False)
    return replicas


def random_candles(count: int, series: Series = BTC, seed: int = 1, last: int = FORMING_OPEN_TIME) -> list[Candle]:
    """Return a random walk in cents that ends with the forming candle."""
    rng, timeframe = np.random.default_rng(seed), TIMEFRAMES[series.timeframe]
    closes = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.001, count)))
    spreads, volumes = rng.exponential(5, count), rng.lognormal(0, 1, count)
    found, opening, before = list[Candle](), timeframe.step_back(timeframe.open_time(last), count - 1), closes[0]
    for close, spread, volume in zip(closes, spreads, volumes, strict=True):
        prices = [before, max(before, close) + spread, min(before, close) - spread, close]
        o, h, low, c = (Decimal(f"{price:.2f}") for price in prices)
        bar = Bar(opening, o, h, low, c, Decimal(f"{volume:.5f}"), Decimal(1), 3)
        found.append(Candle(series, bar, opening < last, CandleSource.EXCHANGE))
        opening, before = timeframe.close_time(opening), close
    return found


MARKET = random_candles(DEEP_CANDLES)
GAP_OPEN_TIMES = {FORMING_OPEN_TIME - back * MINUTE_MS for back in (17, 530, 531, 2222, *range(4000, 5440))}
STORED_OPEN_TIMES = {candle.bar.open_time for candle in MARKET} - GAP_OPEN_TIMES
STORED_COLUMNS = indicators.to_columns([each for each in MARKET if each.bar.open_time in STORED_OPEN_TIMES])


async def get_indicators(replica: ApiReplica, url: str) -> dict[str, Any]:
    answer = await replica.get(url)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def check_values(body: dict[str, Any], every: indicators.OhlcvColumns, timeframe: str = "1m") -> None:
    """Assert that a response has the values of all stored candles."""
    times = np.array(body["timestamps"])
    assert set(times) <= set(every.open_times.tolist())
    places = np.searchsorted(every.open_times, times)
    for row in body["indicators"]:
        (one,) = indicators.parse_specs(row["indicator"])
        if "levels" in row:
            part = every.slice(0, int(places[-1]) + 1)
            whole = indicators.compute_levels(one, part, TIMEFRAMES[timeframe])
            assert [level["name"] for level in row["levels"]] == [level.name for level in whole], row["indicator"]
            assert np.allclose([level["price"] for level in row["levels"]], [level.price for level in whole], rtol=1e-9)
            continue
        for name, values in indicators.compute(one, every, TIMEFRAMES[timeframe]).items():
            ours, scale = np.array(row["outputs"][name], np.float64), np.nanmax(np.abs(values))
            assert np.allclose(ours, values[places], 1e-9, 1e-9 * scale, equal_nan=True), (row["indicator"], name)


async def test_response_has_the_documented_shape(replicas: ReplicaSet) -> None:
    await replicas.save(*random_candles(4))
    closes = [float(each.bar.close) for each in random_candles(4)]
    for path in ("/api/indicators", "/v1/indicators"):
        answer = await replicas.replica().get(f"{path}?symbol=btc-usdt&timeframe=1m&indicators=sma:2,macd,pivots,sma:2")
        body = answer.json()
        assert list(body) == ["symbol", "timeframe", "timestamps", "closed", "indicators"]
        assert body["timestamps"] == [FORMING_OPEN_TIME - back * MINUTE_MS for back in (3, 2, 1, 0)]
        assert body["closed"] == [True, True, True, False]
        assert answer.headers["kurs-exchange"] == "binance"
        sma, macd, pivots = body["indicators"]
        assert {name: sma[name] for name in ("indicator", "name", "parameters", "overlay")} == {
            "indicator": "sma:2",
            "name": "sma",
            "parameters": {"period": 2},
            "overlay": True,
        }
        assert sma["outputs"]["sma"][0] is None
        assert sma["outputs"]["sma"][1:] == pytest.approx([(a + b) / 2 for a, b in pairwise(closes)])
        assert (sma["warmup"], sma["trusted_from"]) == (1, FORMING_OPEN_TIME - 2 * MINUTE_MS)
        assert macd["indicator"] == "macd:12:26:9"
        assert macd["outputs"] == {name: [None] * 4 for name in ("macd", "signal", "histogram")}
        assert macd["trusted_from"] == pivots["trusted_from"] == FORMING_OPEN_TIME + MINUTE_MS
        assert (pivots["levels"], "outputs" in pivots) == ([], False)


async def test_values_are_equal_for_any_range(deep: ReplicaSet) -> None:
    """Ranges at both ends and in between, over missing candles; values are computed, then read from shared pages."""
    ranges = [
        "",
        "&limit=3",
        f"&from={FORMING_OPEN_TIME - 2500 * MINUTE_MS}&to={FORMING_OPEN_TIME - 1501 * MINUTE_MS}",
        f"&from={FORMING_OPEN_TIME - 2400 * MINUTE_MS}&to={FORMING_OPEN_TIME - 1900 * MINUTE_MS}",
        f"&from={FORMING_OPEN_TIME - 6000 * MINUTE_MS}&limit=777",
        f"&to={FORMING_OPEN_TIME - 520 * MINUTE_MS}&limit=15",
        f"&from={FORMING_OPEN_TIME - 100 * MINUTE_MS}",
    ]
    for replica in (deep.replica(), deep.replica()):
        for range_params in ranges:
            body = await get_indicators(replica, f"{URL}{ALL_INDICATORS}{range_params}")
            assert len(body["indicators"]) == len(CATALOG)
            assert not [row["indicator"] for row in body["indicators"] if row["trusted_from"]], range_params
            check_values(body, STORED_COLUMNS)


@pytest.mark.parametrize("timeframe", [name for name in TIMEFRAMES if name != "1m"])
async def test_values_are_right_in_every_timeframe(replicas: ReplicaSet, timeframe: str) -> None:
    """Some timeframes have too few candles since 2017 for trusted values."""
    count = min(2_000, TIMEFRAMES[timeframe].count_between(EARLIEST_CANDLE_MS, FORMING_OPEN_TIME))
    candles = random_candles(count, BTC._replace(timeframe=timeframe))
    await replicas.save(*candles, publish=False)
    body = await get_indicators(replicas.replica(), f"{URL.replace('1m', timeframe)}{ALL_INDICATORS}&limit=40")
    check_values(body, indicators.to_columns(candles), timeframe)
    trusted = {row["name"]: row["trusted_from"] for row in body["indicators"]}
    assert trusted["sma"] is None
    assert all(each is None or body["timestamps"][0] < each for each in trusted.values())


async def test_values_of_too_few_candles_are_marked_untrusted(replicas: ReplicaSet) -> None:
    await replicas.save(*random_candles(300))
    rows = (await get_indicators(replicas.replica(), f"{URL}sma:50,ema:20,rsi,obv,supertrend"))["indicators"]
    first = FORMING_OPEN_TIME - 299 * MINUTE_MS
    assert [row["trusted_from"] for row in rows[:2]] == [first + 49 * MINUTE_MS, FORMING_OPEN_TIME + MINUTE_MS]
    assert rows[1]["outputs"]["ema"][-1] is not None
    empty = await get_indicators(replicas.replica(), f"{URL}sma&to=2020-01-01")
    assert (empty["timestamps"], empty["indicators"]) == ([], [])


async def test_lagging_close_is_read_from_candles_after_the_range(replicas: ReplicaSet) -> None:
    candles = random_candles(200)
    await replicas.save(*candles)
    (row,) = (
        await get_indicators(replicas.replica(), f"{URL}ichimoku&to={FORMING_OPEN_TIME - 100 * MINUTE_MS}&limit=1")
    )["indicators"]
    assert row["outputs"]["lagging"] == [float(candles[-101 + 25].bar.close)]


async def test_future_cloud_has_the_open_times_after_the_last_candle(replicas: ReplicaSet) -> None:
    """It is sent only on request, and does not change other values."""
    candles = random_candles(200)
    await replicas.save(*candles)
    replica = replicas.replica()
    url = f"{URL}ichimoku,sma&to={FORMING_OPEN_TIME - 50 * MINUTE_MS}&limit=3"
    plain, more = await get_indicators(replica, url), await get_indicators(replica, f"{url}&future=true")
    cloud = more["indicators"][0].pop("future")
    assert more == plain
    assert cloud["timestamps"] == [FORMING_OPEN_TIME - 50 * MINUTE_MS + place * MINUTE_MS for place in range(1, 26)]
    later = await get_indicators(
        replica, f"{URL}ichimoku&from={FORMING_OPEN_TIME - 49 * MINUTE_MS}&to={FORMING_OPEN_TIME - 25 * MINUTE_MS}"
    )
    assert later["timestamps"] == cloud["timestamps"]
    for output in ("leading_a", "leading_b"):
        assert cloud["outputs"][output] == pytest.approx(later["indicators"][0]["outputs"][output])
    months = BTC._replace(timeframe="1M")
    await replicas.save(*random_candles(90, months, last=TIMEFRAMES["1M"].open_time(FORMING_OPEN_TIME)))
    (row,) = (await get_indicators(replica, f"{URL.replace('1m', '1M')}ichimoku&future=1&limit=2"))["indicators"]
    openings = [TIMEFRAMES["1M"].open_time(time) for time in row["future"]["timestamps"]]
    assert openings == row["future"]["timestamps"]
    assert (len(openings), openings[0]) == (
        25,
        TIMEFRAMES["1M"].close_time(TIMEFRAMES["1M"].open_time(FORMING_OPEN_TIME)),
    )
    assert None not in row["future"]["outputs"]["leading_a"]


@pytest.mark.parametrize("timeframe", ["1m", "1h", "4h"])
async def test_warmup_is_the_number_of_candles_that_makes_values_trusted(stores: StoreFactory, timeframe: str) -> None:
    series = BTC._replace(timeframe=timeframe)
    standard = ",".join(str(each) for each in indicators.STANDARD if each.name not in ("psar", "supertrend"))

    async def rows(count: int) -> dict[str, dict[str, Any]]:
        replicas = ReplicaSet(await stores())
        await replicas.save(
            *random_candles(count, series, last=TIMEFRAMES[timeframe].open_time(FORMING_OPEN_TIME)), publish=False
        )
        body = await get_indicators(replicas.replica(), f"{URL.replace('1m', timeframe)}{standard}&limit=1")
        return {row["indicator"]: row for row in body["indicators"]}

    needs = {name: row["warmup"] for name, row in (await rows(2)).items()}
    assert (needs["sma:20"], needs["ema:100"]) == (19, 1827)
    assert (await rows(1827))["ema:100"]["trusted_from"] is not None
    assert (await rows(1828))["ema:100"]["trusted_from"] is None
    assert not [row for row in (await rows(max(needs.values()) + 1)).values() if row["trusted_from"]]


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ("symbol=BTCUSDT&timeframe=1m", 400, "write indicators=sma:20,rsi"),
        ("symbol=BTCUSDT&timeframe=1m&indicators=smaa", 422, "did you mean sma"),
        ("symbol=BTCUSDT&timeframe=1m&indicators=sma:0", 422, "write 2 to 500"),
        ("symbol=BTCUSDT&timeframe=1m&indicators=sma:x", 400, "not a whole number"),
        ("symbol=BTCUSDD&timeframe=1m&indicators=sma", 422, "did you mean BTC-USD or BTC-USDT?"),
        ("symbol=BTCUSDT&timeframe=7m&indicators=sma", 422, "timeframe '7m' does not exist"),
        ("symbol=BTCUSDT&indicators=sma", 400, "timeframe is missing"),
        ("symbol=BTCUSDT&timeframe=1m&indicators=sma&future=yes", 400, "neither true nor false"),
        (
            f"symbol=BTCUSDT&timeframe=1m&indicators=sma&from={FORMING_OPEN_TIME - 1000 * MINUTE_MS}",
            422,
            "has 1001 candles of 1m",
        ),
        ("symbol=BTCUSDT&timeframe=1m&indicators=sma&limit=1001", 422, "limit: 1001 is not from 1 to 1000"),
        ("symbol=BTCUSDT&timeframe=1m&indicators=" + "sma," * 600, 400, "at most 2000 are accepted"),
    ],
)
async def test_wrong_request_gets_a_problem_that_says_what_is_accepted(
    replicas: ReplicaSet, query: str, status: int, part: str
) -> None:
    answer = await replicas.replica().get(f"/api/indicators?{query}")
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert part in problem["detail"]
    assert answer.headers["cache-control"] == "no-store"


async def test_response_is_compressed_on_request_and_304_for_its_etag(deep: ReplicaSet) -> None:
    replica = deep.replica()
    url = f"{URL}sma,ema&from={FORMING_OPEN_TIME - 900 * MINUTE_MS}&to={FORMING_OPEN_TIME - 700 * MINUTE_MS}"
    plain, compressed = await replica.get(url), await replica.get(url, accept_encoding="gzip")
    assert plain.headers["cache-control"].startswith("public, max-age=60")
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.content == plain.content
    again = await replica.get(url, if_none_match=plain.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert (await replica.get(f"{URL}sma")).headers["cache-control"].startswith("public, max-age=1,")


async def test_replicas_share_pages_until_a_candle_within_the_warmup_changes(replicas: ReplicaSet) -> None:
    """A second replica reads only pages. A revision before the range, within the warm-up, changes both."""
    first, second = replicas.replica(), replicas.replica()
    candles = random_candles(3_000)
    await replicas.save(*candles, publish=False)
    url = f"{URL}ema:100,rsi&from={FORMING_OPEN_TIME - 1100 * MINUTE_MS}&to={FORMING_OPEN_TIME - 700 * MINUTE_MS}"
    async with run_replica(first), run_replica(second):
        before = await get_indicators(first, url)
        page = f"indicators:{{binance:BTC-USDT}}:1m:{indicators.FORMULA_REVISION}:ema:100:"

        async def page_cached() -> bool:
            return any(key.startswith(page) for key in replicas.cache._bodies)

        await eventually(page_cached)
        replicas.store.calls.clear()
        for key in [key for key in replicas.cache._bodies if key.startswith("candles:")]:
            await replicas.cache.delete(key)
        assert await get_indicators(first, url) == before
        assert replicas.store.calls == {}, "the values were computed again"
        place = 3_000 - 1 - 1_200  # before the first page of the range
        bar = candles[place].bar
        changed = Bar(bar.open_time, bar.open, Decimal(30_000), bar.low, Decimal(30_000), bar.volume, Decimal(1), 3)
        candles[place] = Candle(BTC, changed, True, CandleSource.EXCHANGE, 1)
        await replicas.save(candles[place])
        every = indicators.to_columns(candles)

        async def both_have_changed() -> bool:
            found = [await get_indicators(replica, url) for replica in (first, second)]
            found += [await get_indicators(replica, f"{url}&_=1") for replica in (first, second)]
            return all(body != before for body in found)

        await eventually(both_have_changed)
        for replica in (first, second):
            check_values(await get_indicators(replica, url), every)


async def test_equal_requests_at_once_are_computed_once(replicas: ReplicaSet) -> None:
    await replicas.save(*random_candles(3_000), publish=False)
    replica = replicas.replica()
    url = f"{URL}ema:100&from={FORMING_OPEN_TIME - 1100 * MINUTE_MS}&to={FORMING_OPEN_TIME - 700 * MINUTE_MS}"
    answers = await asyncio.gather(*(replica.get(url) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert replicas.store.calls["candles"] <= 7  # pages


async def test_values_of_the_forming_candle_change_with_it(replicas: ReplicaSet) -> None:
    replica, candles = replicas.replica(), random_candles(50)
    await replicas.save(*candles)
    before = await get_indicators(replica, f"{URL}sma:5")
    bar = candles[-1].bar
    changed = Bar(bar.open_time, bar.open, Decimal(30_000), bar.low, Decimal(30_000), bar.volume, Decimal(1), 3)
    await replicas.save(Candle(BTC, changed, False, CandleSource.TRADES))
    replicas.clock.time += 1_000
    after = await get_indicators(replica, f"{URL}sma:5")
    assert after["indicators"][0]["outputs"]["sma"][:-1] == before["indicators"][0]["outputs"]["sma"][:-1]
    assert after["indicators"][0]["outputs"]["sma"][-1] > before["indicators"][0]["outputs"]["sma"][-1]


async def test_unavailable_cache_changes_no_value(replicas: ReplicaSet) -> None:
    await replicas.save(*random_candles(3_000), publish=False)
    replica = replicas.replica()
    replicas.cache.get = replicas.cache.set = fail_unavailable  # type: ignore[assignment,method-assign]
    check_values(await get_indicators(replica, f"{URL}ema:100,rsi"), indicators.to_columns(random_candles(3_000)))


async def fail_unavailable(*_: object) -> list[bytes | None]:
    raise Unavailable("the cache does not answer")


async def test_catalog_lists_every_indicator(replicas: ReplicaSet) -> None:
    for path in ("/api/indicators/catalog", "/v1/indicators/catalog"):
        rows = (await get_indicators(replicas.replica(), path))["indicators"]
        assert [row["name"] for row in rows] == list(CATALOG)
        for row in rows:
            assert indicators.parse_specs(row["example"]) == indicators.parse_specs(row["name"])
            assert (row["shape"] == "levels") is (row["outputs"] == [])
            assert row["formula"]
