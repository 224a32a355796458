"""The klines of the simulated Binance, compared with the candles that Kurs stores, serves and reports."""

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

MAX_KLINES = 1000  # in one response of Binance, and of Kurs
HTTP_TIMEOUT_SECONDS = 60
FIRST_DAY_MS = 1_483_228_800_000  # 2017, before Binance's first candle
BAR_FIELDS = ("open", "high", "low", "close", "volume")
ExpectedCandles = Mapping[Series, Mapping[int, Bar]]


class Difference(NamedTuple):
    """The expected and the actual candle or count. None: it is missing."""

    series: Series
    where: str
    open_time: int | None
    expected: object
    actual: object

    def __str__(self) -> str:
        name = " ".join(map(str, self.series))
        at = "" if self.open_time is None else f" at {self.open_time}"
        return f"{name}{at}, {self.where}\n  true   {self.expected}\n  found  {self.actual}"


def fetch_expected(simulator: str, spans: Mapping[Series, tuple[int, int]]) -> ExpectedCandles:
    """Return the klines of each series with open times in its span, both ends inclusive."""
    with httpx.Client(base_url=f"{simulator}/binance/api/v3", timeout=HTTP_TIMEOUT_SECONDS) as client:
        return {series: dict(_fetch_klines(client, series, *span)) for series, span in spans.items()}


def history_spans(instruments: Iterable[Instrument], bars: int, until: int) -> dict[Series, tuple[int, int]]:
    """Return the spans of the newest `bars` candles of every timeframe that are closed at `until`; of 1d all."""
    return {
        Series("binance", each, name): _newest_span(name, bars, until) for each in instruments for name in TIMEFRAMES
    }


def _newest_span(timeframe: str, bars: int, until: int) -> tuple[int, int]:
    frame = TIMEFRAMES[timeframe]
    last = frame.step_back(frame.open_time(until), 1)
    return (FIRST_DAY_MS if timeframe == "1d" else max(FIRST_DAY_MS, frame.step_back(last, bars - 1))), last


def _fetch_klines(client: httpx.Client, series: Series, since: int, until: int) -> Iterator[tuple[int, Bar]]:
    symbol = series.instrument.base + series.instrument.quote
    while since <= until:
        query: dict[str, str | int] = {
            "symbol": symbol,
            "interval": series.timeframe,
            "startTime": since,
            "endTime": until,
            "limit": MAX_KLINES,
        }
        rows = client.get("/klines", params=query).raise_for_status().json()
        for opened, *values, _, quote_volume, trades in (row[:9] for row in rows):
            first, high, low, last, volume = map(Decimal, values)
            yield opened, Bar(opened, first, high, low, last, volume, Decimal(quote_volume), trades)
        since = rows[-1][0] + 1 if len(rows) == MAX_KLINES else until + 1


def differences(true: ExpectedCandles, url: str, database: str) -> Iterator[Difference]:
    """Yield missing, duplicate and wrong candles in the database and in responses."""
    for series, stored in asyncio.run(_stored_differences(true, database)).items():
        yield from _compare_stored(series, true[series], stored)
    with httpx.Client(base_url=url, timeout=HTTP_TIMEOUT_SECONDS) as client:
        for series, bars in ((series, bars) for series, bars in true.items() if bars):
            yield from _compare_served(series, bars, client)
            yield from _compare_coverage(series, bars, client)


async def _stored_differences(true: ExpectedCandles, database: str) -> dict[Series, list[Candle]]:
    store = await sql.connect(database)
    try:
        return {series: await store.candles(series, min(bars), max(bars)) for series, bars in true.items() if bars}
    finally:
        await store.close()


def _compare_stored(series: Series, bars: Mapping[int, Bar], stored: Iterable[Candle]) -> Iterator[Difference]:
    found = [(candle.bar.open_time, candle.bar if candle.closed else candle) for candle in stored]
    yield from _compare(series, "in the database", bars, found)


def _compare_served(series: Series, bars: Mapping[int, Bar], client: httpx.Client) -> Iterator[Difference]:
    found, openings = list[tuple[int, object]](), iter(sorted(bars))
    query = {"symbol": str(series.instrument), "timeframe": series.timeframe, "exchange": series.exchange}
    while page := list(islice(openings, MAX_KLINES)):
        answer = client.get("/api/chart-data", params={**query, "from": page[0], "to": page[-1], "limit": MAX_KLINES})
        candles = _decode(answer)["candles"]
        found += [(c["timestamp"], tuple(c[name] for name in BAR_FIELDS) if c["closed"] else c) for c in candles]
    true = {opening: tuple(getattr(bar, name) for name in BAR_FIELDS) for opening, bar in bars.items()}
    yield from _compare(series, "in /api/chart-data", true, found)


def _compare(
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


def _compare_coverage(series: Series, bars: Mapping[int, Bar], client: httpx.Client) -> Iterator[Difference]:
    query = {"symbol": str(series.instrument), "timeframe": series.timeframe, "exchange": series.exchange}
    report = _decode(client.get("/api/candles/coverage", params={**query, "from": min(bars), "to": max(bars)}))
    counts = {"expected": len(bars), "present": len(bars), "missing": 0}
    found = {name: report[name] for name in counts}
    if found != counts:
        yield Difference(series, "as /api/candles/coverage counts", None, counts, found)
    for gap in report["gaps"]:
        if gap["state"] != "repaired":
            yield Difference(series, "in the coverage's gaps", gap["from"], "repaired", gap)


def _decode(answer: httpx.Response) -> Any:
    return json.loads(answer.raise_for_status().text, parse_float=Decimal)
