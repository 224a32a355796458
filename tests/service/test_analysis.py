"""Analyses over HTTP: computed or the analyst's own, cached for all replicas, never older than the candles heard."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.analysis import schemas
from services.core.analysis import DISCLAIMER, Analysis
from services.core.analysis.analysing import analyse
from services.core.analysis.multi_timeframe import together
from services.core.indicators import REVISION, columns
from services.core.model import Candle
from services.core.timeframes import MINUTE, TIMEFRAMES
from tests.api_replicas import BTC, LAST, Replica, Stores, World, candle, empty_stores, following, until

ASKED = "/api/analysis?symbol=BTCUSDT&timeframe=1m"
YEAR = 1_767_225_600_000  # 2026, the one before that of LAST
MULTI = "/api/analysis/BTC-USDT/multi"


@pytest.fixture(scope="module")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stores]:
    async with empty_stores(tmp_path_factory.mktemp("stores")) as make:
        yield make


@pytest.fixture
async def world(stores: Stores) -> World:
    return World(await stores())


def rising(count: int, timeframe: str = "1m", step: str = "0.7") -> list[Candle]:
    """The newest closed candles and the forming one, of a price that rises."""
    frame, series = TIMEFRAMES[timeframe], BTC._replace(timeframe=timeframe)
    last = frame.opening(LAST)
    openings = list(frame.openings(frame.back(last, count), last))
    prices = (str(1000 + place % 7 + place * Decimal(step)) for place in range(len(openings)))
    return [candle(at, series, price, closed=at < last) for at, price in zip(openings, prices, strict=True)]


def expected(candles: list[Candle]) -> Analysis:
    return analyse(candles[0].series, columns([each for each in candles if each.closed]))


async def asked(replica: Replica, url: str = ASKED) -> dict[str, Any]:
    answer = await replica.get(url)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_it_is_what_the_closed_candles_come_to(world: World) -> None:
    candles = rising(900)
    await world.keep(*candles)
    replica = world.replica()
    found = await asked(replica)
    schemas.Analysis.model_validate(found, strict=True, extra="forbid")
    true = expected(candles)
    assert (found["symbol"], found["exchange"], found["timeframe"]) == ("BTC-USDT", "binance", "1m")
    assert (found["timestamp"], found["close"]) == (LAST - MINUTE, true.close)
    assert (found["trend"]["direction"], found["trend"]["strength"]) == ("up", true.trend.strength)
    assert [vote["reason"] for vote in found["trend"]["votes"]] == [vote.reason for vote in true.trend.votes]
    assert found["disclaimer"] == DISCLAIMER
    await world.keep(replace(candles[-1], bar=replace(candles[-1].bar, close=Decimal(9), low=Decimal(9))))
    world.clock.time += 2_000
    assert await asked(replica) == found, "the forming candle changed it"
    assert await asked(replica, ASKED.replace("/api", "/v1")) == found


async def test_pivots_of_a_part_of_a_day_are_not_given_and_that_is_noted(world: World) -> None:
    """Fourteen hours are kept."""
    await world.keep(*rising(840), told=False)
    found = await asked(world.replica())
    assert found["pivot_levels"] == []
    assert [note for note in found["notes"] if "pivot" in note] == [
        "no pivot points: the period that they are made of is not kept from its beginning on"
    ]


async def test_pivots_of_a_year_are_made_of_its_days_for_weeks_too(world: World) -> None:
    days = rising(800, "1d")
    await world.keep(*days, *rising(80, "1w"), told=False)
    replica = world.replica()
    year = [each.bar for each in days if YEAR <= each.bar.timestamp < YEAR + 365 * 1440 * MINUTE]
    point = float((max(bar.high for bar in year) + min(bar.low for bar in year) + year[-1].close) / 3)
    found = await asked(replica, ASKED.replace("1m", "1w"))
    assert {line["name"]: line["price"] for line in found["pivot_levels"]}["p"] == pytest.approx(point)
    url = "/api/indicators?symbol=BTCUSDT&timeframe=1w&indicators=pivots"
    (row,) = (await asked(replica, url))["indicators"]
    assert {level["name"]: level["price"] for level in row["levels"]}["p"] == pytest.approx(point)
    assert row["trusted_from"] is None
    day = next(each for each in days if each.bar.timestamp == YEAR)
    changed = replace(day, bar=replace(day.bar, high=Decimal(90_000)), revision=1)

    async def followed() -> bool:
        world.clock.time += 2_000
        lines = (await asked(replica, ASKED.replace("1m", "1w")))["pivot_levels"]
        return next(bool(line["price"] > 2 * point) for line in lines if line["name"] == "p")

    async with following(replica):
        await world.keep(changed)
        await until(followed)


async def test_without_candles_it_says_that_it_knows_nothing(world: World) -> None:
    replica = world.replica()
    found = await asked(replica)
    assert (found["timestamp"], found["trend"]["direction"], found["candles"]) == (None, "unknown", 0)
    assert "no closed candle" in found["summary"]
    schemas.Multi.model_validate(await asked(replica, MULTI), strict=True, extra="forbid")


async def test_the_analysts_row_is_answered_until_something_is_corrected(world: World) -> None:
    candles = rising(700)
    await world.keep(*candles)
    own = replace(expected(candles), notes=("from the row",))
    await world.store.store.save(own)
    replica, late = world.replica(), world.replica()
    async with following(replica):
        assert (await asked(replica))["notes"] == ["from the row"]
        other = replace(candles[-9].bar, close=candles[-9].bar.close + 3, high=candles[-9].bar.high + 3)
        candles[-9] = replace(candles[-9], bar=other, revision=1)
        await world.keep(candles[-9])

        async def corrected() -> bool:
            world.clock.time += 1_000
            notes: list[str] = (await asked(replica))["notes"]
            return notes == list(expected(candles).notes)

        await until(corrected)
        signals = (await asked(replica))["signals"]
        assert [each["rule"] for each in signals] == [each.rule for each in expected(candles).signals]
        assert (await asked(late))["notes"] == list(expected(candles).notes), "the shared cache has the old one"


async def test_replicas_share_what_one_computed_and_all_hear_of_a_new_candle(world: World) -> None:
    candles = rising(700)
    await world.keep(*candles)
    first, second = world.replica(), world.replica()
    async with following(first), following(second):
        before = await asked(first)
        rows = world.store.calls["analyses"]
        assert await asked(second) == before
        assert world.store.calls["analyses"] == rows, "what is in the cache is looked for in the store"
        assert (await world.cache.get(f"analysis:{{binance:BTC-USDT}}:1m:{REVISION}"))[0]
        world.clock.time += MINUTE
        closed = replace(candles[-1], closed=True)
        await world.keep(closed, candle(LAST + MINUTE, closed=False))

        async def everyone_knows() -> bool:
            world.clock.time += 1_000
            return all([(await asked(replica))["timestamp"] == LAST for replica in (first, second)])

        await until(everyone_knows)


async def test_many_who_ask_at_once_have_it_computed_once(world: World) -> None:
    await world.keep(*rising(700))
    replica = world.replica()
    await asked(replica, "/api/symbols")
    before = world.store.calls.copy()
    urls = [f"{ASKED}&_={number}" for number in range(50)]
    answers = await asyncio.gather(*(replica.get(url) for url in urls))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert world.store.calls["analyses"] == before["analyses"] + 1


async def test_several_timeframes_are_summed_up(world: World) -> None:
    hours, days = rising(300, "1h"), rising(300, "1d", "-0.7")
    await world.keep(*hours, *days)
    replica = world.replica()
    found = await asked(replica, f"{MULTI}?timeframes=1d,1h")
    schemas.Multi.model_validate(found, strict=True, extra="forbid")
    assert [(row["timeframe"], row["direction"]) for row in found["timeframes"]] == [("1h", "up"), ("1d", "down")]
    whole = together([expected(hours), expected(days)])
    assert found["trend"] == {
        "direction": whole.direction,
        "strength": whole.strength,
        "agreement": whole.agreement,
    }
    assert "1h up" in found["summary"]
    default = await asked(replica, "/v1/analysis/binance:btcusdt/multi")
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
        (f"{MULTI}?timeframes=1h,7h", "'7h' does not exist"),
        (f"{MULTI}?symbol=ETHUSDT", "symbol has 2 values"),
        (f"{MULTI}?exchange=binanse", "did you mean binance"),
    ],
)
async def test_what_cannot_be_answered_says_why(world: World, url: str, part: str) -> None:
    answer = await world.replica().get(url)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert part in answer.json()["detail"]


async def test_who_has_it_is_told_so_plain_or_packed(world: World) -> None:
    await world.keep(*rising(700))
    replica = world.replica()
    for url in (ASKED, MULTI):
        plain, packed = await replica.get(url), await replica.get(url, accept_encoding="gzip")
        assert packed.headers.get("content-encoding") == ("gzip" if url == ASKED else None)  # the other one is short
        assert packed.content == plain.content
        assert plain.headers["cache-control"].startswith("public, max-age=1,")
        assert plain.headers["kurs-exchange"] == "binance"
        again = await replica.get(url, if_none_match=plain.headers["etag"])
        assert (again.status_code, again.content) == (304, b"")
