"""Whether what a client gives is what Kurs or the simulator has. Each answers an outcome in words, or raises Wrong."""

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from tests.simulator import is_gapless
from tests.strangers.deployment import Deployment

CHANNELS = ("btc_usd", "candles:BTCUSDT:1m")
MIN_EVENTS = 40  # that each client of a stream reads: with it, its line has broken twice
HOUR_MS = 3_600_000
OutputCheck = Callable[[Deployment, str], Awaitable[str]]


class OutputMismatch(Exception):
    """A client gave something else."""


def _require(condition: object, complaint: str) -> None:
    if not condition:
        raise OutputMismatch(complaint)


def _parse_values(text: str) -> Iterator[Any]:
    """JSON values, one after the other. A page's title has spaces where its script wrote lines."""
    while text := text.lstrip():
        value, end = json.JSONDecoder().raw_decode(text)
        yield value
        text = text[end:]


async def _get_json(url: str, **query: str | int) -> Any:
    async with httpx.AsyncClient(timeout=30) as http:
        return (await http.get(url, params=query)).raise_for_status().json()


async def check_events(place: Deployment, printed: str) -> str:
    """Events of a stream: all that were told since the first of each channel, once."""
    seen: dict[str, list[int]] = defaultdict(list)
    for event in _parse_values(printed):
        _require(event["channel"] in CHANNELS and event["data"], f"an event that nobody sent: {event}")
        seen[event["channel"]].append(int(event["id"].split(",")[CHANNELS.index(event["channel"])]))
    return await _check_complete(place, seen)


async def check_messages(place: Deployment, printed: str) -> str:
    """Messages of a WebSocket: the same."""
    seen: dict[str, list[int]] = defaultdict(list)
    for message in _parse_values(printed):
        seen[message.get("channel") or CHANNELS[1]].append(message["seq"])
    return await _check_complete(place, seen)


async def _check_complete(place: Deployment, seen: Mapping[str, Sequence[int]]) -> str:
    _require(seen.keys() == set(CHANNELS), f"only of {sorted(seen)}")
    for channel, (first, *numbers) in seen.items():
        told = await _get_json(f"{place.kurs}/v1/stream/history", channels=channel, after=first, limit=1000)
        true = [event["seq"] for event in told["events"]][: len(numbers)]
        _require(numbers == true, f"{channel}: {len(set(true) - set(numbers))} missing, {len(numbers)} came")
    return f"{sum(map(len, seen.values()))} events over a connection that broke twice: none missing, none twice"


async def check_chart(place: Deployment, printed: str) -> str:
    """Bars of the last minutes."""
    found = json.loads(printed)
    count = await _check_bars(place, "1m", found["bars"])
    return f"{count:,} candles equal, {found['updates']} live updates"


async def check_data_frame(place: Deployment, printed: str) -> str:
    """Bars of the last hours."""
    found = json.loads(printed)
    count = await _check_bars(place, "1h", found["bars"])
    return f"{count:,} candles equal, in {found['days']} days"


async def check_udf(place: Deployment, printed: str) -> str:
    """All that the adapter is asked by a chart."""
    found = json.loads(printed)
    count = await _check_bars(place, "1m", found["bars"])
    _require(any("BTC" in name for name in found["search"]), "a search finds nothing")
    _require(found["ended"], "the end of all history is not told")
    _require(found["tick"] > 0, "no live bar")
    (quote,) = found["quotes"]
    _require(quote["s"] == "ok" and quote["v"]["bid"] <= quote["v"]["ask"], f"no quote: {quote}")
    return f"{count:,} bars equal, the end of history, live bars, search, quotes, {found['resolutions']} resolutions"


async def _check_bars(place: Deployment, timeframe: str, bars: Sequence[Sequence[float]]) -> int:
    """How many closed ones; each is as Kurs has it."""
    limit = min(len(bars), 1000)
    rows = (await _get_json(f"{place.kurs}/api/chart-data", symbol="BTCUSDT", timeframe=timeframe, limit=limit))[
        "candles"
    ]
    names = ("timestamp", "open", "high", "low", "close")
    true = {row["timestamp"]: [row[name] for name in names] for row in rows if row["closed"]}
    given = [list(bar) for bar in bars if bar[0] in true]
    _require(len(given) >= 0.9 * limit and len(given) > 50, f"{len(given)} of {limit} candles")
    wrong = [bar for bar in given if bar != true[int(bar[0])]]
    _require(not wrong, f"{len(wrong)} candles differ: {wrong[:1]}")
    return len(given)


async def check_binance(place: Deployment, printed: str) -> str:
    """What a client of Binance gives of BTCUSDT."""
    rows = await _get_json(f"{place.simulator}/binance/api/v3/klines", symbol="BTCUSDT", interval="1h", limit=60)
    return _check_exchange(json.loads(printed), {row[0]: [row[0], *map(float, row[1:5])] for row in rows})


async def check_deribit(place: Deployment, printed: str) -> str:
    """What a client of Deribit gives of BTC-PERPETUAL."""
    found = json.loads(printed)
    times = [bar[0] for bar in found.get("bars", ())] or [0]
    result = (
        await _get_json(
            f"{place.simulator}/deribit/api/v2/public/get_tradingview_chart_data",
            instrument_name="BTC-PERPETUAL",
            start_timestamp=int(times[0]),
            end_timestamp=int(times[-1]),
            resolution="60",
        )
    )["result"]
    columns = [result[name] for name in ("ticks", "open", "high", "low", "close")]
    return _check_exchange(found, {row[0]: list(row) for row in zip(*columns, strict=True)})


def _check_exchange(found: Mapping[str, Any], true: Mapping[int, Sequence[float]]) -> str:
    told = []
    if "bars" in found:
        closed = [bar for bar in found["bars"][:-1] if bar[0] in true]
        _require(len(closed) > 40, f"{len(closed)} bars")
        wrong = [bar for bar in closed if bar != list(true[int(bar[0])])]
        _require(not wrong, f"{len(wrong)} bars differ: {wrong[:1]} {[true[int(bar[0])] for bar in wrong[:1]]}")
        told.append(f"{len(closed)} bars equal")
    for name in ("trades", "live"):
        if name in found:
            _require(found[name] and is_gapless(found[name]), f"{name} with holes: {found[name]}")
            told.append(f"{len(found[name])} {'live ' if name == 'live' else ''}trades in a row")
    for name in ("quote", "book"):
        if name in found:
            bid, ask = found[name]
            _require(0 < bid < ask, f"{name} {bid} {ask}")
            told.append(name)
    if "tickers" in found:
        _require(found["tickers"], "no tickers")
        told.append("tickers")
    return ", ".join(told)


async def check_coingecko(place: Deployment, printed: str) -> str:
    """What a client of CoinGecko gives."""
    found = json.loads(printed)
    _require(found["ping"] and found["prices"]["bitcoin"]["rub"] > found["prices"]["bitcoin"]["usd"] > 0, printed)
    bars = await _get_json(f"{place.simulator}/coingecko/api/v3/coins/bitcoin/ohlc", vs_currency="usd", days=1)
    known = [bar for bar in found["bars"][:-1] if bar in bars]
    _require(len(known) >= len(found["bars"]) - 2 > 10, f"{len(known)} of {len(found['bars'])} bars")
    return f"prices in two currencies, {len(known)} bars equal, {found['points']} points of a chart"


async def check_generated(place: Deployment, printed: str) -> str:
    """What generated code makes of three answers is what they say."""
    found = json.loads(printed)
    wanted: dict[str, str | int] = {"symbol": "BTCUSDT", "timeframe": "1h", "limit": 50}
    candles = await _get_json(f"{place.kurs}/api/chart-data", **wanted)
    values = await _get_json(f"{place.kurs}/api/indicators", indicators="sma:20,macd", **wanted)
    for name, true in (("chart_data", candles), ("indicators", values)):
        _require(
            found[name].keys() >= true.keys() - {"loading"}, f"{name} has {sorted(found[name])}, not {sorted(true)}"
        )
    _require(found["courses"]["courses"][0]["value"] > 0, "no rate")
    closed = [row for row in candles["candles"] if row["closed"]]
    given = [row for row in found["chart_data"]["candles"] if row["closed"]]
    _require(given == closed, "other candles")
    _require(len(given) == len(closed) > 40, f"{len(given)} candles")
    return f"/v1/courses, /api/chart-data and /api/indicators requested and parsed, {len(given)} candles equal"
