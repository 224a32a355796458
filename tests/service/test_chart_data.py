"""Candles over HTTP on a real store: the asked shape to the letter, ranges, holes, caches that hear of changes, UDF."""

import asyncio
import gzip
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from services import api
from services.adapters import sql
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.core.candles import empty
from services.core.model import Bar, Candle, Gap, Hole, HoleState, Instrument, Origin, Series
from services.core.timeframes import MINUTE, TIMEFRAMES
from services.exchanges import chosen
from services.hub import Hub
from services.ports import Deps
from services.settings import Settings
from services.web import Site, create_app

NOW = 1_800_000_030_000  # half a minute into one
LAST = 1_800_000_000_000  # the forming minute's opening
BTC = Series("binance", Instrument("BTC", "USDT"), "1m")
DAYS = Series("binance", Instrument("ETH", "USDT"), "1d")
CHART = "/api/chart-data?symbol=BTCUSDT&timeframe=1m"


class Turning:
    """A clock that tests turn. Sleeping takes no more than a moment."""

    time = NOW

    def now(self) -> int:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


class Counting:
    """A store, and how often each of its methods was asked."""

    def __init__(self, store: sql.SqlStore) -> None:
        self.store, self.calls = store, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.store, name)


class World:
    """Replicas over one store, one bus and one cache."""

    def __init__(self, store: sql.SqlStore) -> None:
        self.clock, self.store = Turning(), Counting(store)
        self.bus, self.cache = MemoryBus(queues={}), MemoryCache()

    def replica(self) -> "Replica":
        settings = Settings(_env_file=None)
        deps = Deps(settings, self.clock, self.bus, self.cache, self.store, Hub(), chosen(settings), MemoryJournal())
        return Replica(deps)

    async def keep(self, *items: Candle | Hole | Gap, told: bool = True) -> None:
        """As the writer does it: kept, then told."""
        await self.store.store.save(*items)
        if told:
            await self.bus.publish(*(item for item in items if isinstance(item, Candle)))


class Replica:
    """One replica of the API."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        site = Site(api.ROUTERS, api.FRONTS(deps), api.CHECKS(deps), frozenset())
        transport = httpx.ASGITransport(create_app(deps, site))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://kurs")

    async def get(self, url: str, **headers: str) -> httpx.Response:
        named = {"accept-encoding": "identity"} | {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.get(url, headers=named)

    async def candles(self, url: str) -> list[dict[str, Any]]:
        answer = await self.get(url)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = json.loads(answer.text, parse_float=Decimal)["candles"]
        return rows


@pytest.fixture(scope="module")
async def empty_store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callable[[], Awaitable[sql.SqlStore]]]:
    """Makes stores, each on a database of its own: copies of one that is empty."""
    folder, opened = tmp_path_factory.mktemp("stores"), list[sql.SqlStore]()
    await sql.migrate(f"sqlite+aiosqlite:///{folder}/empty.db")

    async def make() -> sql.SqlStore:
        path = shutil.copy(folder / "empty.db", folder / f"{len(opened)}.db")
        opened.append(await sql.connect(f"sqlite+aiosqlite:///{path}"))
        return opened[-1]

    yield make
    for store in opened:
        await store.close()


@pytest.fixture
async def world(empty_store: Callable[[], Awaitable[sql.SqlStore]]) -> World:
    return World(await empty_store())


@asynccontextmanager
async def following(replica: Replica) -> AsyncIterator[None]:
    """With its jobs at work."""
    tasks = [asyncio.create_task(job(replica.deps)) for job in api.JOBS]
    await asyncio.sleep(0)
    try:
        yield
        assert not any(task.done() for task in tasks), "a job ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def candle(opening: int, series: Series = BTC, price: str = "97614.93000000", **more: Any) -> Candle:
    value = Decimal(price)
    bar = Bar(opening, value, value + 1, value - 1, value, Decimal("0.10000000"), value / 10, 3)
    fields: dict[str, Any] = {"closed": opening < LAST, "source": Origin.EXCHANGE} | more
    return Candle(series, bar, **fields)


def minutes(first: int, last: int) -> list[Candle]:
    """Candles of minutes before the forming one: 0 is it, 1 the last closed."""
    return [candle(LAST - back * MINUTE, price=f"{20_000 + back}") for back in range(first, last - 1, -1)]


def at(back: int) -> int:
    """The opening so many minutes before the forming one."""
    return LAST - back * MINUTE


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(500):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not so within 5 s")


async def test_the_asked_shape_with_every_digit(world: World) -> None:
    one, replica = candle(LAST - MINUTE, price="97614.930000000000000001"), world.replica()
    prices = (Decimal(text) for text in ("0.00000001", "1E+3", "1E-12", "5.50"))
    bar = Bar(LAST, next(prices), next(prices), next(prices), next(prices), Decimal(0), Decimal(0), 0)
    await world.keep(one, Candle(BTC, bar, False, Origin.TICKS, 2))
    for path in ("/api/chart-data", "/v1/chart-data"):
        answer = await replica.get(f"{path}?symbol=btc-usdt&timeframe=1m&from={LAST - MINUTE}&to={LAST}")
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
    "words",
    [
        f"from={LAST - 3 * MINUTE}&to={LAST - MINUTE}",
        f"from={LAST // 1000 - 180}&to={LAST // 1000 - 60}",
        "from=2027-01-15T07:57:00Z&to=2027-01-15T07:59:59.999Z",
        "from=2027-01-15T10:57:00+03:00&to=2027-01-15T07:59:00",
        f"to={LAST - 1}&limit=3",
        f"from={LAST - 3 * MINUTE - 59_999}&limit=3",
        f"from={LAST - 3 * MINUTE}&to={LAST - MINUTE}&symbol=BINANCE:BTC/USDT&exchange=",
    ],
)
async def test_times_and_names_in_every_spelling(world: World, words: str) -> None:
    await world.keep(*minutes(9, 0))
    url = CHART if "symbol" not in words else "/api/chart-data?timeframe=1m"
    rows = await world.replica().candles(f"{url}&{words}")
    assert [row["timestamp"] for row in rows] == [LAST - back * MINUTE for back in (3, 2, 1)]


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ("symbol=BTCUSDD&timeframe=1m", 422, "did you mean BTC-USD or BTC-USDT?"),
        ("symbol=BTCUSDT&timeframe=1m&exchange=kraken", 422, "exchange 'kraken' does not exist; there are: binance"),
        ("symbol=BTCUSDT&timeframe=7m", 422, "timeframe '7m' does not exist; there are: 1m, 3m"),
        ("symbol=BTCUSDT&timeframe=1m&fill=zero", 422, "there are: none, prev, null"),
        ("timeframe=1m", 400, "symbol is missing: write symbol=BTCUSDT"),
        ("symbol=BTCUSDT", 400, "timeframe is missing"),
        ("symbol=BTCUSDT,ETHUSDT&timeframe=1m", 400, "symbol has 2 values"),
        (f"symbol=BTCUSDT&timeframe=1m&from={LAST}&to={LAST - 1}", 422, "is after to, 2027-01-15T07:59:59Z"),
        ("symbol=BTCUSDT&timeframe=1m&from=2027-01-15T08:00:31Z", 422, "is in the future: it is 2027-01-15T08:00:30Z"),
        (f"symbol=BTCUSDT&timeframe=1m&from={LAST - 1000 * MINUTE}&to={LAST}", 422, "has 1001 candles of 1m, at most"),
        ("symbol=BTCUSDT&timeframe=1m&limit=1001", 422, "limit: 1001 is not from 1 to 1000"),
        ("symbol=BTCUSDT&timeframe=1m&limit=-1", 400, "'-1' is not a whole number"),
        ("symbol=BTCUSDT&timeframe=1m&limit=" + "9" * 500, 422, "is not from 1 to 1000"),
        ("symbol=BTCUSDT&timeframe=1m&from=yesterday", 400, "'yesterday' is not a time"),
        ("symbol=BTCUSDT&timeframe=1m&from=%00&to=1e99", 400, "is not a time"),
        ("symbol=BTCUSDT&timeframe=1m&from=" + "9" * 16, 422, "in the future"),
        ("symbol=BTCUSDT&timeframe=1M&from=0001-01-01T00:00:00%2B14:00", 400, "is before 1970"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_told_why(world: World, query: str, status: int, part: str) -> None:
    answer = await world.replica().get(f"/api/chart-data?{query}")
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert part in problem["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


@hypothesis(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kept=st.sets(st.integers(0, 30)),
    since=st.none() | st.integers(0, 35),
    until=st.integers(0, 35),
    limit=st.none() | st.integers(1, 12),
    fill=st.sampled_from(["none", "prev", "null"]),
)
async def test_any_range_of_any_holes(  # noqa: PLR0913, PLR0917  what a question is made of
    empty_store: Callable[[], Awaitable[sql.SqlStore]],
    kept: set[int],
    since: int | None,
    until: int,
    limit: int | None,
    fill: str,
) -> None:
    """Minutes back from the forming one. What is expected is found the slow way: opening by opening."""
    if since is not None and since < until:
        since, until = until, since
    world = World(await empty_store())
    await world.keep(*(candle(LAST - back * MINUTE, price=str(1000 + back)) for back in kept))
    words = [f"to={LAST - until * MINUTE}", f"fill={fill}"]
    words += [f"from={LAST - since * MINUTE}"] if since is not None else []
    words += [f"limit={limit}"] if limit else []
    rows = await world.replica().candles("&".join([CHART, *words]))

    inside = sorted((back for back in kept if until <= back <= (35 if since is None else since)), reverse=True)
    inside = inside[-(limit or 1000) :] if since is None else inside[: limit or 1000]
    expected = {back: Decimal(1000 + back) for back in inside}
    if fill != "none" and (inside or since is not None):
        start = inside[0] if since is None else since
        end = inside[-1] if since is not None and len(inside) == limit else max(until, 1)
        for back in range(start, end - 1, -1):
            before = [earlier for earlier in kept if earlier > back]
            if back not in kept and before:
                expected[back] = Decimal(1000 + min(before)) if fill == "prev" else None  # type: ignore[assignment]
    backs = sorted(expected, reverse=True)
    backs = backs[-(limit or 1000) :] if since is None else backs[: limit or 1000]
    assert [(row["timestamp"], row["close"]) for row in rows] == [
        (LAST - back * MINUTE, expected[back]) for back in backs
    ]
    assert [row["kind"] for row in rows] == ["traded" if back in kept else "missing" for back in backs]


async def test_who_has_it_is_told_so_plain_or_packed(world: World) -> None:
    await world.keep(*minutes(200, 1))
    replica = world.replica()
    url = f"{CHART}&from={LAST - 200 * MINUTE}&to={LAST - 10 * MINUTE}"
    plain, packed = await replica.get(url), await replica.get(url, accept_encoding="br, gzip")
    assert plain.headers["cache-control"].startswith("public, max-age=60")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 5
    assert "Accept-Encoding" in packed.headers["vary"]
    assert packed.headers["etag"] != plain.headers["etag"]
    for tag in (plain.headers["etag"], packed.headers["etag"], f"W/{plain.headers['etag']}"):
        again = await replica.get(url, if_none_match=tag)
        assert (again.status_code, again.content) == (304, b"")
    refusing = await replica.get(url, accept_encoding="gzip;q=0")
    assert "content-encoding" not in refusing.headers
    assert gzip.decompress(gzip.compress(plain.content)) == refusing.content
    forming = await replica.get(f"{CHART}&from={LAST - MINUTE}")
    assert forming.headers["cache-control"].startswith("public, max-age=1,")


async def test_closed_candles_come_from_the_caches_until_one_is_revised(world: World) -> None:
    """From this process's, then from the one that replicas share; a revision reaches both."""
    first, second = world.replica(), world.replica()
    await world.keep(*minutes(2000, 1))
    url = f"{CHART}&from={LAST - 1900 * MINUTE}&to={LAST - 1000 * MINUTE}"
    async with following(first), following(second):
        before = await first.candles(url)
        assert len(before) == 901
        asked = world.store.calls["candles"]
        assert await first.candles(url) == before
        assert await second.candles(f"{url}&exchange=binance") == before
        assert world.store.calls["candles"] == asked, "it was read from the store again"
        revised = candle(LAST - 1500 * MINUTE, price="1", revision=1)
        await world.keep(revised)

        async def everyone_knows() -> bool:
            found = [await replica.candles(f"{url}&x={replica is first}") for replica in (first, second)]
            found.append(await first.candles(url))
            return all(rows[400]["revision"] == 1 and rows[400]["close"] == 1 for rows in found)

        await until(everyone_knows)
        (key,) = [key for key in world.cache._answers if key.startswith("candles:{binance:BTC-USDT}:1m:")][:1]
        assert json.loads((await world.cache.get(key))[0] or b"[]")


async def test_many_who_ask_at_once_ask_the_store_once(world: World) -> None:
    await world.keep(*minutes(20, 0))
    replica = world.replica()
    await replica.candles(CHART)
    asked, world.clock.time = world.store.calls["last"], world.clock.time + 5_000
    answers = await asyncio.gather(*(replica.get(CHART) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert world.store.calls["last"] == asked + 1


async def test_the_forming_candle_is_a_second_old_at_most(world: World) -> None:
    replica = world.replica()
    await world.keep(candle(LAST, price="1"))
    assert (await replica.candles(CHART))[-1]["close"] == 1
    await world.keep(candle(LAST, price="2"))
    world.clock.time += 1_000
    assert (await replica.candles(CHART))[-1]["close"] == 2


async def test_symbols_and_timeframes(world: World) -> None:
    replica = world.replica()
    async with following(replica):
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
        assert (await world.cache.get("symbols:list"))[0]
        imported = Series("binance", Instrument("SOL", "EUR"), "1h")
        assert (await replica.get("/api/chart-data?symbol=SOLEUR&timeframe=1h")).status_code == 422
        await world.keep(candle(LAST - 3600_000, imported))
        world.clock.time += 1_000
        assert len(await replica.candles("/api/chart-data?symbol=SOLEUR&timeframe=1h")) == 1
        listed = (await replica.get("/api/symbols")).json()["symbols"]
        assert {"SOL-EUR"} == {each["symbol"] for each in listed} - {each["symbol"] for each in symbols}
    timeframes = (await replica.get("/v1/timeframes")).json()["timeframes"]
    assert [each["timeframe"] for each in timeframes] == list(TIMEFRAMES)
    assert timeframes[-1]["milliseconds"] is None


async def test_coverage_names_every_hole_and_why(world: World) -> None:
    gone = {40, 41, 42, 20, 10, 11, 5}
    kept = [each for each in minutes(100, 0) if (LAST - each.bar.timestamp) // MINUTE not in gone]
    await world.keep(
        *kept,
        candle(at(60), price="1", revision=1),
        Candle(BTC, empty(at(61), Decimal(7)), True, Origin.EXCHANGE),
        Hole(BTC, at(80), at(71), NOW - 9, HoleState.REPAIRED, NOW - 8, Origin.EXCHANGE),
        Hole(BTC, at(42), at(41), NOW - 7),
        Hole(BTC, at(20), at(20), NOW - 6, HoleState.ABSENT, NOW - 5),
        Gap("binance", at(42) + 5, at(41), "the connection was lost"),
        Gap("binance", at(42) + 5, at(41), "another instrument's", DAYS.instrument),
    )
    replica = world.replica()
    url = "/api/candles/coverage?symbol=BTCUSDT&timeframe=1m"
    answer = (await replica.get(f"{url}&from={at(90)}&to={NOW}")).json()
    counts = {name: answer[name] for name in ("expected", "present", "missing", "repaired", "empty", "revised")}
    assert counts == {"expected": 90, "present": 83, "missing": 7, "repaired": 10, "empty": 1, "revised": 1}
    found = [(gap["from"], gap["to"], gap["state"], gap["candles"], gap["reasons"]) for gap in answer["gaps"]]
    assert found == [
        (at(80), at(71), "repaired", 10, []),
        (at(42), at(41), "open", 2, ["the connection was lost"]),
        (at(40), at(40), "unnoticed", 1, []),
        (at(20), at(20), "absent", 1, []),
        (at(11), at(10), "unnoticed", 2, []),
        (at(5), at(5), "unnoticed", 1, []),
    ]
    repaired = answer["gaps"][0]
    assert (repaired["noticed"], repaired["settled"], repaired["origin"]) == (NOW - 9, NOW - 8, "exchange")
    everything = (await replica.get("/v1/candles/coverage")).json()
    assert everything["gaps"][0]["symbol"] == "BTC-USDT"
    row = next(r for r in everything["series"] if (r["symbol"], r["timeframe"]) == ("BTC-USDT", "1m"))
    assert (row["expected"], row["from"]) == (100, at(100))
    assert {r["timeframe"] for r in everything["series"]} == set(TIMEFRAMES)
    wrong = (await replica.get("/api/candles/coverage?exchange=deribitt")).json()
    assert "did you mean deribit" in wrong["detail"]
    only = (await replica.get("/api/candles/coverage?exchange=deribit&timeframe=1m")).json()["series"]
    assert {(r["exchange"], r["timeframe"]) for r in only} == {("deribit", "1m")}


async def scroll(replica: Replica, symbol: str, resolution: str, countback: int | None) -> list[int]:
    """Back to the beginning, as a chart does it: the openings that came, oldest first. Fails if it never ends."""
    step, end, times = 50 * 60, NOW // 1000 + 60, list[int]()
    for _ in range(100):
        words = f"symbol={symbol}&resolution={resolution}&from={end - step}&to={end}"
        answer = (await replica.get(f"/udf/history?{words}{f'&countback={countback}' if countback else ''}")).json()
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
async def test_scrolling_back_brings_everything_once_and_ends(world: World, countback: int | None) -> None:
    """Over a hole that is longer than what is asked at a time."""
    kept = [*minutes(2600, 2400), *minutes(300, 0)]
    await world.keep(*kept)
    times = await scroll(world.replica(), "BINANCE:BTC-USDT", "1", countback)
    assert times == [each.bar.timestamp // 1000 for each in kept]


async def test_charts_find_symbols_and_read_every_digit(world: World) -> None:
    days = [
        candle(opening, DAYS, "3290.125")
        for opening in range(LAST - LAST % 86_400_000 - 5 * 86_400_000, LAST, 86_400_000)
    ]
    await world.keep(*days, candle(LAST, price="0.10"), Hole(BTC, LAST - 5 * MINUTE, LAST - 4 * MINUTE, NOW))
    replica = world.replica()
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
    assert (await replica.get("/udf/time")).text == str(NOW // 1000)
    (mark,) = (await replica.get(f"/udf/marks?symbol=BTCUSDT&resolution=1&from=0&to={NOW // 1000}")).json()
    assert (mark["time"], mark["color"]) == ((LAST - 5 * MINUTE) // 1000, "red")
    for query, part in {
        "symbols?symbol=NOSUCH": "does not exist",
        "history?symbol=BTCUSDT&resolution=7&from=0&to=1": "there are: 1, 3, 5",
        "history?symbol=BTCUSDT&resolution=1&from=x&to=1": "not a time",
        "history?resolution=1": "symbol is missing",
    }.items():
        answer = await replica.get(f"/udf/{query}")
        assert (answer.json()["s"], answer.headers["cache-control"]) == ("error", "no-store")
        assert part in answer.json()["errmsg"]
