"""The truth about candles: the simulated Binance's own klines, beside what Kurs keeps, answers and says of itself."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

import httpx

from services.adapters import sql
from services.core.model import Bar, Candle, Instrument, Series
from services.core.timeframes import TIMEFRAMES

PAGE = 1000  # candles in one answer, of Binance's and of ours
SECONDS = 30  # for one of its answers
BEGINNING = 1_483_228_800_000  # 2017: Binance is younger
NAMES = ("open", "high", "low", "close", "volume")
Truth = Mapping[Series, Mapping[int, Bar]]


class Difference(NamedTuple):
    """What ought to be and what is, of one candle or one count. None: it is not there."""

    series: Series
    where: str
    opening: int | None
    true: object
    found: object

    def __str__(self) -> str:
        name = " ".join(map(str, self.series))
        at = "" if self.opening is None else f" at {self.opening}"
        return f"{name}{at}, {self.where}\n  true   {self.true}\n  found  {self.found}"


def truth(simulator: str, spans: Mapping[Series, tuple[int, int]]) -> Truth:
    """The klines of each series with openings in its span, both ends inclusive."""
    with httpx.Client(base_url=f"{simulator}/binance/api/v3", timeout=SECONDS) as client:
        return {series: dict(_klines(client, series, *span)) for series, span in spans.items()}


def history(instruments: Iterable[Instrument], bars: int, until: int) -> dict[Series, tuple[int, int]]:
    """The newest `bars` bars of every timeframe that are closed at `until`; of 1d all there are."""
    return {Series("binance", each, name): _newest(name, bars, until) for each in instruments for name in TIMEFRAMES}


def _newest(timeframe: str, bars: int, until: int) -> tuple[int, int]:
    frame = TIMEFRAMES[timeframe]
    last = frame.back(frame.opening(until), 1)
    return (BEGINNING if timeframe == "1d" else max(BEGINNING, frame.back(last, bars - 1))), last


def _klines(client: httpx.Client, series: Series, since: int, until: int) -> Iterator[tuple[int, Bar]]:
    symbol = series.instrument.base + series.instrument.quote
    while since <= until:
        query: dict[str, str | int] = {
            "symbol": symbol,
            "interval": series.timeframe,
            "startTime": since,
            "endTime": until,
            "limit": PAGE,
        }
        rows = client.get("/klines", params=query).raise_for_status().json()
        for opened, *values, _, quote_volume, trades in (row[:9] for row in rows):
            first, high, low, last, volume = map(Decimal, values)
            yield opened, Bar(opened, first, high, low, last, volume, Decimal(quote_volume), trades)
        since = rows[-1][0] + 1 if len(rows) == PAGE else until + 1


def differences(true: Truth, url: str, database: str) -> Iterator[Difference]:
    """All that is missing, double or other than it ought to be, in the database and in what is answered."""
    for series, kept in asyncio.run(_kept(true, database)).items():
        yield from _stored(series, true[series], kept)
    with httpx.Client(base_url=url, timeout=30) as client:
        for series, bars in ((series, bars) for series, bars in true.items() if bars):
            yield from _answered(series, bars, client)
            yield from _covered(series, bars, client)


async def _kept(true: Truth, database: str) -> dict[Series, list[Candle]]:
    store = await sql.connect(database)
    try:
        return {series: await store.candles(series, min(bars), max(bars)) for series, bars in true.items() if bars}
    finally:
        await store.close()


def _stored(series: Series, bars: Mapping[int, Bar], kept: Iterable[Candle]) -> Iterator[Difference]:
    found = [(candle.bar.timestamp, candle.bar if candle.closed else candle) for candle in kept]
    yield from _compared(series, "in the database", bars, found)


def _answered(series: Series, bars: Mapping[int, Bar], client: httpx.Client) -> Iterator[Difference]:
    found, openings = list[tuple[int, object]](), iter(sorted(bars))
    query = {"symbol": str(series.instrument), "timeframe": series.timeframe, "exchange": series.exchange}
    while page := list(islice(openings, PAGE)):
        answer = client.get("/api/chart-data", params={**query, "from": page[0], "to": page[-1], "limit": PAGE})
        candles = _decoded(answer)["candles"]
        found += [(c["timestamp"], tuple(c[name] for name in NAMES) if c["closed"] else c) for c in candles]
    true = {opening: tuple(getattr(bar, name) for name in NAMES) for opening, bar in bars.items()}
    yield from _compared(series, "in /api/chart-data", true, found)


def _compared(
    series: Series, where: str, true: Mapping[int, object], rows: Iterable[tuple[int, object]]
) -> Iterator[Difference]:
    found = dict[int, object]()
    for opening, value in rows:
        if opening in found:
            yield Difference(series, f"double {where}", opening, found[opening], value)
        found[opening] = value
    for opening in sorted(true.keys() | found.keys()):
        if true.get(opening) != found.get(opening):
            yield Difference(series, where, opening, true.get(opening), found.get(opening))


def _covered(series: Series, bars: Mapping[int, Bar], client: httpx.Client) -> Iterator[Difference]:
    query = {"symbol": str(series.instrument), "timeframe": series.timeframe, "exchange": series.exchange}
    told = _decoded(client.get("/api/candles/coverage", params={**query, "from": min(bars), "to": max(bars)}))
    counts = {"expected": len(bars), "present": len(bars), "missing": 0}
    found = {name: told[name] for name in counts}
    if found != counts:
        yield Difference(series, "as /api/candles/coverage counts", None, counts, found)
    for gap in told["gaps"]:
        if gap["state"] != "repaired":
            yield Difference(series, "in the coverage's gaps", gap["from"], "repaired", gap)


def _decoded(answer: httpx.Response) -> Any:
    return json.loads(answer.raise_for_status().text, parse_float=Decimal)
