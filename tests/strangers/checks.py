"""Checks of a client's output against Kurs or the simulator. Each returns a summary, or raises OutputMismatch."""

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from tests.simulator import is_gapless
from tests.strangers.deployment import Deployment

CHANNELS = ("btc_usd", "candles:BTCUSDT:1m")
MIN_EVENTS = 40  # that each client of a stream reads; by then its connection has broken twice
HOUR_MS = 3_600_000
OutputCheck = Callable[[Deployment, str], Awaitable[str]]


class OutputMismatch(Exception):
    """A client's output differs from what Kurs or the simulator has."""


def _require(condition: object, error: str) -> None:
    if not condition:
        raise OutputMismatch(error)


def _parse_values(text: str) -> Iterator[Any]:
    """Yield JSON values. A page's title has spaces where its script wrote lines."""
    while text := text.lstrip():
        value, end = json.JSONDecoder().raw_decode(text)
        yield value
        text = text[end:]


async def _get_json(url: str, **query: str | int) -> Any:
    async with httpx.AsyncClient(timeout=30) as http:
        return (await http.get(url, params=query)).raise_for_status().json()


async def check_events(deployment: Deployment, printed: str) -> str:
    """Check that events of a stream have each entry since the first one of each channel, once."""
    seen: dict[str, list[int]] = defaultdict(list)
    for event in _parse_values(printed):
        _require(event["channel"] in CHANNELS and event["data"], f"an unknown event: {event}")
        seen[event["channel"]].append(int(event["id"].split(",")[CHANNELS.index(event["channel"])]))
    return await _check_complete(deployment, seen)


async def check_messages(deployment: Deployment, printed: str) -> str:
    """Check messages of a WebSocket in the same way."""
    seen: dict[str, list[int]] = defaultdict(list)
    for message in _parse_values(printed):
        seen[message.get("channel") or CHANNELS[1]].append(message["seq"])
    return await _check_complete(deployment, seen)


async def _check_complete(deployment: Deployment, seen: Mapping[str, Sequence[int]]) -> str:
    _require(seen.keys() == set(CHANNELS), f"only of {sorted(seen)}")
    for channel, (first, *numbers) in seen.items():
        page = await _get_json(f"{deployment.kurs}/v1/stream/history", channels=channel, after=first, limit=1000)
        true = [event["seq"] for event in page["events"]][: len(numbers)]
        _require(numbers == true, f"{channel}: {len(set(true) - set(numbers))} missing, {len(numbers)} received")
    return f"{sum(map(len, seen.values()))} events over a connection that broke twice: none missing, none twice"


async def check_chart(deployment: Deployment, printed: str) -> str:
    """Check bars of the last minutes."""
    found = json.loads(printed)
    count = await _check_bars(deployment, "1m", found["bars"])
    return f"{count:,} candles equal, {found['updates']} live updates"


async def check_data_frame(deployment: Deployment, printed: str) -> str:
    """Check bars of the last hours."""
    found = json.loads(printed)
    count = await _check_bars(deployment, "1h", found["bars"])
    return f"{count:,} candles equal, in {found['days']} days"


async def check_udf(deployment: Deployment, printed: str) -> str:
    """Check everything that a chart requests from the adapter."""
    found = json.loads(printed)
    count = await _check_bars(deployment, "1m", found["bars"])
    _require(any("BTC" in name for name in found["search"]), "a search finds nothing")
    _require(found["ended"], "history has no end")
    _require(found["tick"] > 0, "no live bar")
    (quote,) = found["quotes"]
    _require(quote["s"] == "ok" and quote["v"]["bid"] <= quote["v"]["ask"], f"no quote: {quote}")
    return f"{count:,} bars equal, the end of history, live bars, search, quotes, {found['resolutions']} resolutions"


async def _check_bars(deployment: Deployment, timeframe: str, bars: Sequence[Sequence[float]]) -> int:
    """Check that each closed bar equals that of Kurs, and return their number."""
    limit = min(len(bars), 1000)
    rows = (await _get_json(f"{deployment.kurs}/api/chart-data", symbol="BTCUSDT", timeframe=timeframe, limit=limit))[
        "candles"
    ]
    names = ("timestamp", "open", "high", "low", "close")
    true = {row["timestamp"]: [row[name] for name in names] for row in rows if row["closed"]}
    actual = [list(bar) for bar in bars if bar[0] in true]
    _require(len(actual) >= 0.9 * limit and len(actual) > 50, f"{len(actual)} of {limit} candles")
    wrong = [bar for bar in actual if bar != true[int(bar[0])]]
    _require(not wrong, f"{len(wrong)} candles differ: {wrong[:1]}")
    return len(actual)


async def check_binance(deployment: Deployment, printed: str) -> str:
    """Check the output of a client of Binance for BTCUSDT."""
    rows = await _get_json(f"{deployment.simulator}/binance/api/v3/klines", symbol="BTCUSDT", interval="1h", limit=60)
    return _check_exchange(json.loads(printed), {row[0]: [row[0], *map(float, row[1:5])] for row in rows})


async def check_deribit(deployment: Deployment, printed: str) -> str:
    """Check the output of a client of Deribit for BTC-PERPETUAL."""
    found = json.loads(printed)
    times = [bar[0] for bar in found.get("bars", ())] or [0]
    result = (
        await _get_json(
            f"{deployment.simulator}/deribit/api/v2/public/get_tradingview_chart_data",
            instrument_name="BTC-PERPETUAL",
            start_timestamp=int(times[0]),
            end_timestamp=int(times[-1]),
            resolution="60",
        )
    )["result"]
    columns = [result[name] for name in ("ticks", "open", "high", "low", "close")]
    return _check_exchange(found, {row[0]: list(row) for row in zip(*columns, strict=True)})


def _check_exchange(found: Mapping[str, Any], true: Mapping[int, Sequence[float]]) -> str:
    parts = []
    if "bars" in found:
        closed = [bar for bar in found["bars"][:-1] if bar[0] in true]
        _require(len(closed) > 40, f"{len(closed)} bars")
        wrong = [bar for bar in closed if bar != list(true[int(bar[0])])]
        _require(not wrong, f"{len(wrong)} bars differ: {wrong[:1]} {[true[int(bar[0])] for bar in wrong[:1]]}")
        parts.append(f"{len(closed)} bars equal")
    for name in ("trades", "live"):
        if name in found:
            _require(found[name] and is_gapless(found[name]), f"{name} with gaps: {found[name]}")
            parts.append(f"{len(found[name])} {'live ' if name == 'live' else ''}trades in a row")
    for name in ("quote", "book"):
        if name in found:
            bid, ask = found[name]
            _require(0 < bid < ask, f"{name} {bid} {ask}")
            parts.append(name)
    if "tickers" in found:
        _require(found["tickers"], "no tickers")
        parts.append("tickers")
    return ", ".join(parts)


async def check_coingecko(deployment: Deployment, printed: str) -> str:
    """Check the output of a client of CoinGecko."""
    found = json.loads(printed)
    _require(found["ping"] and found["prices"]["bitcoin"]["rub"] > found["prices"]["bitcoin"]["usd"] > 0, printed)
    bars = await _get_json(f"{deployment.simulator}/coingecko/api/v3/coins/bitcoin/ohlc", vs_currency="usd", days=1)
    known = [bar for bar in found["bars"][:-1] if bar in bars]
    _require(len(known) >= len(found["bars"]) - 2 > 10, f"{len(known)} of {len(found['bars'])} bars")
    return f"prices in two currencies, {len(known)} bars equal, {found['points']} points of a chart"


async def check_generated(deployment: Deployment, printed: str) -> str:
    """Check that generated code parses three responses completely."""
    found = json.loads(printed)
    wanted: dict[str, str | int] = {"symbol": "BTCUSDT", "timeframe": "1h", "limit": 50}
    candles = await _get_json(f"{deployment.kurs}/api/chart-data", **wanted)
    values = await _get_json(f"{deployment.kurs}/api/indicators", indicators="sma:20,macd", **wanted)
    for name, true in (("chart_data", candles), ("indicators", values)):
        _require(
            found[name].keys() >= true.keys() - {"loading"}, f"{name} has {sorted(found[name])}, not {sorted(true)}"
        )
    _require(found["courses"]["courses"][0]["value"] > 0, "no rate")
    closed = [row for row in candles["candles"] if row["closed"]]
    actual = [row for row in found["chart_data"]["candles"] if row["closed"]]
    _require(actual == closed, "other candles")
    _require(len(actual) == len(closed) > 40, f"{len(actual)} candles")
    return f"/v1/courses, /api/chart-data and /api/indicators requested and parsed, {len(actual)} candles equal"
