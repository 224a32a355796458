"""Indicators over HTTP on a real store: beside their candles, the same wherever a range begins, fresh after changes."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from services.core import indicators
from services.core.errors import Unavailable
from services.core.history_depth import BEGINNING
from services.core.indicators import CATALOG
from services.core.model import Bar, Candle, Origin, Series
from services.core.timeframes import MINUTE, TIMEFRAMES
from tests.api_replicas import BTC, LAST, Replica, Stores, World, empty_stores, following, until

DEEP = 12_000  # minutes: more than a week, since when OBV counts
ALL = ",".join(CATALOG)
URL = "/api/indicators?symbol=BTCUSDT&timeframe=1m&indicators="


@pytest.fixture(scope="module")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stores]:
    async with empty_stores(tmp_path_factory.mktemp("stores")) as make:
        yield make


@pytest.fixture
async def world(stores: Stores) -> World:
    return World(await stores())


@pytest.fixture(scope="module")
async def deep(stores: Stores) -> World:
    """A long history, with a hole of a day and single ones."""
    world = World(await stores())
    await world.keep(*(each for each in MARKET if each.bar.timestamp in PLACES), told=False)
    return world


def market(count: int, series: Series = BTC, seed: int = 1, last: int = LAST) -> list[Candle]:
    """A walk in cents that ends with the forming candle."""
    rng, timeframe = np.random.default_rng(seed), TIMEFRAMES[series.timeframe]
    closes = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.001, count)))
    spreads, volumes = rng.exponential(5, count), rng.lognormal(0, 1, count)
    found, opening, before = list[Candle](), timeframe.back(timeframe.opening(last), count - 1), closes[0]
    for close, spread, volume in zip(closes, spreads, volumes, strict=True):
        prices = [before, max(before, close) + spread, min(before, close) - spread, close]
        o, h, low, c = (Decimal(f"{price:.2f}") for price in prices)
        bar = Bar(opening, o, h, low, c, Decimal(f"{volume:.5f}"), Decimal(1), 3)
        found.append(Candle(series, bar, opening < last, Origin.EXCHANGE))
        opening, before = timeframe.closing(opening), close
    return found


MARKET = market(DEEP)
HOLES = {LAST - back * MINUTE for back in (17, 530, 531, 2222, *range(4000, 5440))}
PLACES = {candle.bar.timestamp for candle in MARKET} - HOLES
KEPT = indicators.columns([each for each in MARKET if each.bar.timestamp in PLACES])


async def asked(replica: Replica, url: str) -> dict[str, Any]:
    answer = await replica.get(url)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def agrees(body: dict[str, Any], every: indicators.Columns, timeframe: str = "1m") -> None:
    """Everything in an answer is what all candles give that are kept."""
    times = np.array(body["timestamps"])
    assert set(times) <= set(every.time.tolist())
    places = np.searchsorted(every.time, times)
    for row in body["indicators"]:
        (one,) = indicators.parse(row["indicator"])
        if "levels" in row:
            part = every.between(0, int(places[-1]) + 1)
            whole = indicators.levels(one, part, TIMEFRAMES[timeframe])
            assert [level["name"] for level in row["levels"]] == [level.name for level in whole], row["indicator"]
            assert np.allclose([level["price"] for level in row["levels"]], [level.price for level in whole], rtol=1e-9)
            continue
        for name, values in indicators.compute(one, every, TIMEFRAMES[timeframe]).items():
            ours, scale = np.array(row["outputs"][name], np.float64), np.nanmax(np.abs(values))
            assert np.allclose(ours, values[places], 1e-9, 1e-9 * scale, equal_nan=True), (row["indicator"], name)


async def test_the_asked_shape(world: World) -> None:
    await world.keep(*market(4))
    closes = [float(each.bar.close) for each in market(4)]
    for path in ("/api/indicators", "/v1/indicators"):
        answer = await world.replica().get(f"{path}?symbol=btc-usdt&timeframe=1m&indicators=sma:2,macd,pivots,sma:2")
        body = answer.json()
        assert list(body) == ["symbol", "timeframe", "timestamps", "closed", "indicators"]
        assert body["timestamps"] == [LAST - back * MINUTE for back in (3, 2, 1, 0)]
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
        assert (sma["warmup"], sma["trusted_from"]) == (1, LAST - 2 * MINUTE)
        assert macd["indicator"] == "macd:12:26:9"
        assert macd["outputs"] == {name: [None] * 4 for name in ("macd", "signal", "histogram")}
        assert macd["trusted_from"] == pivots["trusted_from"] == LAST + MINUTE
        assert (pivots["levels"], "outputs" in pivots) == ([], False)


async def test_everything_is_the_same_wherever_a_range_begins_and_ends(deep: World) -> None:
    """Newest, oldest and between, over holes; at first computed, then from the pages that others computed."""
    ranges = [
        "",
        "&limit=3",
        f"&from={LAST - 2500 * MINUTE}&to={LAST - 1501 * MINUTE}",
        f"&from={LAST - 2400 * MINUTE}&to={LAST - 1900 * MINUTE}",
        f"&from={LAST - 6000 * MINUTE}&limit=777",
        f"&to={LAST - 520 * MINUTE}&limit=15",
        f"&from={LAST - 100 * MINUTE}",
    ]
    for replica in (deep.replica(), deep.replica()):
        for words in ranges:
            body = await asked(replica, f"{URL}{ALL}{words}")
            assert len(body["indicators"]) == len(CATALOG)
            assert not [row["indicator"] for row in body["indicators"] if row["trusted_from"]], words
            agrees(body, KEPT)


@pytest.mark.parametrize("timeframe", [name for name in TIMEFRAMES if name != "1m"])
async def test_every_timeframe(world: World, timeframe: str) -> None:
    """With all the history since 2017 at most; what cannot be trusted yet says so."""
    count = min(2_000, TIMEFRAMES[timeframe].expected(BEGINNING, LAST))
    candles = market(count, BTC._replace(timeframe=timeframe))
    await world.keep(*candles, told=False)
    body = await asked(world.replica(), f"{URL.replace('1m', timeframe)}{ALL}&limit=40")
    agrees(body, indicators.columns(candles), timeframe)
    trusted = {row["name"]: row["trusted_from"] for row in body["indicators"]}
    assert trusted["sma"] is None
    assert all(each is None or body["timestamps"][0] < each for each in trusted.values())


async def test_what_little_history_gives_is_said_to_be_so(world: World) -> None:
    await world.keep(*market(300))
    rows = (await asked(world.replica(), f"{URL}sma:50,ema:20,rsi,obv,supertrend"))["indicators"]
    first = LAST - 299 * MINUTE
    assert [row["trusted_from"] for row in rows[:2]] == [first + 49 * MINUTE, LAST + MINUTE]
    assert rows[1]["outputs"]["ema"][-1] is not None
    empty = await asked(world.replica(), f"{URL}sma&to=2020-01-01")
    assert (empty["timestamps"], empty["indicators"]) == ([], [])


async def test_the_lagging_close_looks_ahead_of_the_range(world: World) -> None:
    candles = market(200)
    await world.keep(*candles)
    (row,) = (await asked(world.replica(), f"{URL}ichimoku&to={LAST - 100 * MINUTE}&limit=1"))["indicators"]
    assert row["outputs"]["lagging"] == [float(candles[-101 + 25].bar.close)]


async def test_the_future_cloud_stands_on_the_grid_after_the_last_candle(world: World) -> None:
    """Only where it is asked for, and only of what knows of it; the values beside the candles stay as they are."""
    candles = market(200)
    await world.keep(*candles)
    replica = world.replica()
    url = f"{URL}ichimoku,sma&to={LAST - 50 * MINUTE}&limit=3"
    plain, more = await asked(replica, url), await asked(replica, f"{url}&future=true")
    cloud = more["indicators"][0].pop("future")
    assert more == plain
    assert cloud["timestamps"] == [LAST - 50 * MINUTE + place * MINUTE for place in range(1, 26)]
    later = await asked(replica, f"{URL}ichimoku&from={LAST - 49 * MINUTE}&to={LAST - 25 * MINUTE}")
    assert later["timestamps"] == cloud["timestamps"]
    for output in ("leading_a", "leading_b"):
        assert cloud["outputs"][output] == pytest.approx(later["indicators"][0]["outputs"][output])
    months = BTC._replace(timeframe="1M")
    await world.keep(*market(90, months, last=TIMEFRAMES["1M"].opening(LAST)))
    (row,) = (await asked(replica, f"{URL.replace('1m', '1M')}ichimoku&future=1&limit=2"))["indicators"]
    openings = [TIMEFRAMES["1M"].opening(time) for time in row["future"]["timestamps"]]
    assert openings == row["future"]["timestamps"]
    assert (len(openings), openings[0]) == (25, TIMEFRAMES["1M"].closing(TIMEFRAMES["1M"].opening(LAST)))
    assert None not in row["future"]["outputs"]["leading_a"]


@pytest.mark.parametrize("timeframe", ["1m", "1h", "4h"])
async def test_each_indicator_says_how_deep_a_history_it_needs(stores: Stores, timeframe: str) -> None:
    """With as many candles kept before the first one its values are trusted."""
    series = BTC._replace(timeframe=timeframe)
    standard = ",".join(str(each) for each in indicators.STANDARD if each.name not in ("psar", "supertrend"))

    async def rows(count: int) -> dict[str, dict[str, Any]]:
        world = World(await stores())
        await world.keep(*market(count, series, last=TIMEFRAMES[timeframe].opening(LAST)), told=False)
        body = await asked(world.replica(), f"{URL.replace('1m', timeframe)}{standard}&limit=1")
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
        (f"symbol=BTCUSDT&timeframe=1m&indicators=sma&from={LAST - 1000 * MINUTE}", 422, "has 1001 candles of 1m"),
        ("symbol=BTCUSDT&timeframe=1m&indicators=sma&limit=1001", 422, "limit: 1001 is not from 1 to 1000"),
        ("symbol=BTCUSDT&timeframe=1m&indicators=" + "sma," * 600, 400, "at most 2000 are read"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_told_why(world: World, query: str, status: int, part: str) -> None:
    answer = await world.replica().get(f"/api/indicators?{query}")
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert part in problem["detail"]
    assert answer.headers["cache-control"] == "no-store"


async def test_who_has_it_is_told_so_plain_or_packed(deep: World) -> None:
    replica = deep.replica()
    url = f"{URL}sma,ema&from={LAST - 900 * MINUTE}&to={LAST - 700 * MINUTE}"
    plain, packed = await replica.get(url), await replica.get(url, accept_encoding="gzip")
    assert plain.headers["cache-control"].startswith("public, max-age=60")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    again = await replica.get(url, if_none_match=plain.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert (await replica.get(f"{URL}sma")).headers["cache-control"].startswith("public, max-age=1,")


async def test_pages_are_shared_until_a_candle_changes_within_the_warmup(world: World) -> None:
    """A second replica reads neither store nor candles; a revision far before the range reaches both."""
    first, second = world.replica(), world.replica()
    candles = market(3_000)
    await world.keep(*candles, told=False)
    url = f"{URL}ema:100,rsi&from={LAST - 1100 * MINUTE}&to={LAST - 700 * MINUTE}"
    async with following(first), following(second):
        before = await asked(first, url)
        page = f"indicators:{{binance:BTC-USDT}}:1m:{indicators.REVISION}:ema:100:"

        async def kept() -> bool:
            return any(key.startswith(page) for key in world.cache._answers)

        await until(kept)
        world.store.calls.clear()
        for key in [key for key in world.cache._answers if key.startswith("candles:")]:
            await world.cache.drop(key)
        assert await asked(first, url) == before
        assert world.store.calls == {}, "it was computed again"
        place = 3_000 - 1 - 1_200  # before the first page of the range
        bar = candles[place].bar
        changed = Bar(bar.timestamp, bar.open, Decimal(30_000), bar.low, Decimal(30_000), bar.volume, Decimal(1), 3)
        candles[place] = Candle(BTC, changed, True, Origin.EXCHANGE, 1)
        await world.keep(candles[place])
        every = indicators.columns(candles)

        async def everyone_knows() -> bool:
            found = [await asked(replica, url) for replica in (first, second)]
            found += [await asked(replica, f"{url}&_=1") for replica in (first, second)]
            return all(body != before for body in found)

        await until(everyone_knows)
        for replica in (first, second):
            agrees(await asked(replica, url), every)


async def test_many_who_ask_at_once_compute_once(world: World) -> None:
    await world.keep(*market(3_000), told=False)
    replica = world.replica()
    url = f"{URL}ema:100&from={LAST - 1100 * MINUTE}&to={LAST - 700 * MINUTE}"
    answers = await asyncio.gather(*(replica.get(url) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert world.store.calls["candles"] <= 7  # pages


async def test_the_forming_candle_is_followed(world: World) -> None:
    replica, candles = world.replica(), market(50)
    await world.keep(*candles)
    before = await asked(replica, f"{URL}sma:5")
    bar = candles[-1].bar
    risen = Bar(bar.timestamp, bar.open, Decimal(30_000), bar.low, Decimal(30_000), bar.volume, Decimal(1), 3)
    await world.keep(Candle(BTC, risen, False, Origin.TICKS))
    world.clock.time += 1_000
    after = await asked(replica, f"{URL}sma:5")
    assert after["indicators"][0]["outputs"]["sma"][:-1] == before["indicators"][0]["outputs"]["sma"][:-1]
    assert after["indicators"][0]["outputs"]["sma"][-1] > before["indicators"][0]["outputs"]["sma"][-1]


async def test_a_cache_that_does_not_answer_costs_time_only(world: World) -> None:
    await world.keep(*market(3_000), told=False)
    replica = world.replica()
    world.cache.get = world.cache.set = gone  # type: ignore[assignment,method-assign]
    agrees(await asked(replica, f"{URL}ema:100,rsi"), indicators.columns(market(3_000)))


async def gone(*_: object) -> list[bytes | None]:
    raise Unavailable("the cache does not answer")


async def test_the_catalog(world: World) -> None:
    for path in ("/api/indicators/catalog", "/v1/indicators/catalog"):
        rows = (await asked(world.replica(), path))["indicators"]
        assert [row["name"] for row in rows] == list(CATALOG)
        for row in rows:
            assert indicators.parse(row["example"]) == indicators.parse(row["name"])
            assert (row["shape"] == "levels") is (row["outputs"] == [])
            assert row["formula"]
