"""Live streams through real sockets: messages, resuming, invalid requests, slow clients, the stop of a replica."""

import asyncio
import dataclasses
import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import websockets
import yaml
from msgspec.structs import replace

from services.adapters.memory import MemoryBus, MemoryJournal
from services.api.streams import snapshots
from services.api.streams.channel_resolver import ChannelResolver
from services.core.model import (
    ActiveExchange,
    ExchangeSwitch,
    IndicatorRequest,
    IndicatorValue,
)
from services.sequencing import sequenced_publisher
from tests.api import ServedReplica, connect_client, connect_stalled, open_event_stream, serve_replica
from tests.stream_messages import BTC, ETH, SERIES, START, candle, exchange_status, rate
from tests.waiting import eventually


@pytest.fixture
async def here() -> AsyncIterator[ServedReplica]:
    async with serve_replica() as running:
        yield running


async def test_websocket_messages_of_a_candle_channel(here: ServedReplica) -> None:
    await here.publish(candle(0, 100))
    async with connect_client(here) as one:
        welcome = await one.next()
        assert welcome["type"] == "welcome"
        assert welcome["message"]
        await one.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        assert await one.next() == {"type": "subscribed", "symbol": "BTCUSDT", "timeframe": "1m"}
        standing = await one.next()
        assert (standing["type"], standing["data"]["close"], standing["symbol"]) == ("snapshot", 100, "BTCUSDT")
        await here.publish(candle(0, 105))
        update = await one.next()
        assert update.keys() == {"type", "symbol", "timeframe", "data", "seq", "time"}
        assert (update["type"], update["symbol"], update["timeframe"]) == ("price_update", "BTCUSDT", "1m")
        assert update["data"] == {
            "timestamp": START,
            "open": 105,
            "high": 106,
            "low": 104,
            "close": 105,
            "volume": 1,
            "closed": False,
            "kind": "traded",
            "source": "ticks",
            "revision": 0,
        }
        assert update["seq"] > standing["seq"]
        await here.publish(candle(0, 106, closed=True), candle(1, 107), candle(0, 108, closed=True, revision=1))
        told = [(await one.next("price_update"))["data"] for _ in range(3)]
        assert [(row["closed"], row["close"], row["revision"]) for row in told] == [
            (True, 106, 0),
            (False, 107, 0),
            (True, 108, 1),
        ]
        await one.send(action="unsubscribe", symbol="BTCUSDT", timeframe="1m", id=7)
        assert await one.next() == {"type": "unsubscribed", "symbol": "BTCUSDT", "timeframe": "1m", "id": 7}
        await here.publish(candle(1, 109))
        await one.send(action="ping", id="last")
        assert await one.next() == {"type": "pong", "id": "last"}


async def test_indicators_rates_and_exchange_statuses_are_channels(here: ServedReplica) -> None:
    await here.publish(rate(BTC, "100.5"), rate(ETH, "7"), exchange_status(True, "connected"))
    async with connect_client(here) as one:
        await one.next("welcome")
        await one.send(action="subscribe", symbols=["BTCUSDT"], timeframe="1m", indicators=["sma:20"], id=1)
        confirmed = {"type": "subscribed", "symbol": "BTCUSDT", "timeframe": "1m", "indicators": ["sma:20"], "id": 1}
        assert await one.next() == confirmed
        await one.send(action="subscribe", channels=["btc_usd", "courses", "connection", "source_changed"])
        names = ["btc_usd", "courses", "connection", "source_changed"]
        assert await one.next() == {"type": "subscribed", "channels": names}
        standing = [await one.next() for _ in range(4)]
        assert [row["channel"] for row in standing] == ["btc_usd", "courses", "courses", "connection"]
        assert standing[0]["data"]["value"] == "100.5"
        await here.publish(IndicatorValue(SERIES, "sma:20", START, {"sma": 101.25}, closed=False))
        assert (await one.next())["data"] == {"timestamp": START, "values": {"sma": 101.25}, "closed": False}
        await here.publish(rate(ETH, "8"))
        update = await one.next()
        assert (update["type"], update["channel"]) == ("courses_update", "courses")
        assert (update["data"]["direction"], update["data"]["value"]) == ("ETH-USD", "8")
        await here.publish(rate(ETH, "8"))  # as old as it is, but no news
        switch = ExchangeSwitch(1, "binance", "deribit", "why")
        await here.publish(exchange_status(False, "cut off"), ActiveExchange(1, "deribit", 1, "", 1, (switch,)))
        connection, source = await one.next(), await one.next()
        assert (connection["type"], connection["data"]["reason"]) == ("connection", "cut off")
        told = source["data"]
        assert (source["type"], told["previous"], told["exchange"]) == ("source_changed", "binance", "deribit")
    assert IndicatorRequest(SERIES, "sma:20", 0) in [replace(wish, until=0) for wish in here.indicator_requests]


@pytest.mark.parametrize(
    ("said", "code", "part"),
    [
        ("{", "bad-request", "not understood"),
        ('"subscribe"', "bad-request", "not understood"),
        ('{"action":"subscribe","symbol":5}', "bad-request", "symbol"),
        ('{"action":"subscribe","symbol":"BTCUSDT"}', "bad-request", "timeframe is missing"),
        ('{"action":"subscribe","timeframe":"1m"}', "bad-request", "symbol is missing"),
        ('{"action":"subscribe"}', "bad-request", "no channel"),
        ('{"action":"subscribe","symbol":"BTCUSTD","timeframe":"1m"}', "unknown-name", "or BTC-USDT?"),
        ('{"action":"subscribe","symbol":"BTCUSDT","timeframe":"7m"}', "unknown-name", "timeframe"),
        ('{"action":"subscribe","channels":["btc_usdd"]}', "unknown-name", "did you mean btc_usd"),
        ('{"action":"subscribe","channels":["indicators:BTCUSDT"]}', "bad-request", "write for example"),
        ('{"action":"subscribe","channels":["indicators:BTCUSDT:1m:smaa:20"]}', "unknown-name", "sma"),
        ('{"action":"resume","channels":["btc_usd"],"after":"x"}', "bad-request", "cursor"),
        ('{"action":"resume","channels":["btc_usd"],"after":[1,2]}', "bad-request", "1 numbers"),
        ('{"action":"subscribe","channels":[' + ",".join(['"courses"'] * 101) + "]}", "bad-request", "101"),
        ('{"action":"subscrbe"}', "unknown-name", "did you mean subscribe"),
        ("[" * 50_000, "bad-request", "not understood"),
    ],
)
async def test_invalid_request_gets_an_error(here: ServedReplica, said: str, code: str, part: str) -> None:
    async with connect_client(here) as one:
        await one.next("welcome")
        await one.connection.send(said)
        error = await one.next()
        assert (error["type"], error["code"], "id" in error) == ("error", code, False)
        assert part in error["message"]
        if said.startswith('{"'):
            await one.connection.send(said.replace("{", '{"id":8,', 1))
            assert await one.next() == {**error, "id": 8}
        await one.send(action="ping")
        assert await one.next() == {"type": "pong"}


async def test_client_resumes_from_seq_over_websocket_sse_and_http(
    here: ServedReplica,
) -> None:
    await here.publish(candle(0, 100))
    async with connect_client(here) as one:
        await one.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        seen = (await one.next("snapshot"))["seq"]
    await here.publish(*(candle(0, close) for close in range(101, 110)))
    async with connect_client(here) as one:
        await one.send(action="resume", symbol="BTCUSDT", timeframe="1m", after=seen)
        assert (await one.next("resumed"))["symbol"] == "BTCUSDT"
        assert [(await one.next())["data"]["close"] for _ in range(9)] == list(range(101, 110))
        await here.publish(candle(0, 110))
        assert (await one.next())["data"]["close"] == 110
    async with open_event_stream(here, "candles:BTCUSDT:1m", headers={"Last-Event-ID": str(seen)}) as stream:
        told = [await stream.next() for _ in range(10)]
        assert [event.data["close"] for event in told] == list(range(101, 111))
        assert {event.name for event in told} == {"candles:BTCUSDT:1m"}
    asked = {"channels": "candles:BTCUSDT:1m", "after": told[4].id, "limit": "3"}
    async with httpx.AsyncClient() as http:
        page = (await http.get(f"{here.stream_url}/history", params=asked)).raise_for_status().json()
        assert [event["data"]["close"] for event in page["events"]] == [106, 107, 108]
        rest = (await http.get(f"{here.stream_url}/history", params={**asked, "after": page["cursor"]})).json()
        assert [event["data"]["close"] for event in rest["events"]] == [109, 110]
        assert rest["cursor"] == told[-1].id
        lost = (await http.get(f"{here.stream_url}/history", params={**asked, "after": "5"})).json()
        assert (lost["events"], lost["reset"]) == ([], ["candles:BTCUSDT:1m"])


async def test_every_block_of_the_event_stream_is_an_event(here: ServedReplica) -> None:
    """Some clients make an empty event of a comment, or of `retry`, that an empty line follows."""
    text = ""
    url = f"{here.stream_url}?channels=btc_usd&timer=0"
    async with asyncio.timeout(20), httpx.AsyncClient() as http, http.stream("GET", url, timeout=20) as answer:
        async for piece in answer.aiter_text():
            text += piece
            if text.count("\n:") >= 2 and text.endswith("\n\n"):
                break
            await here.publish(rate(BTC, str(len(text))))
    assert text.startswith("retry: 3000\n")
    for block in text[:-2].split("\n\n"):
        told = [line.partition(":")[0] for line in block.splitlines()]
        # a client that takes the id before it has the data would not ask again for an event that is cut off between
        assert told[-3:] == ["event", "data", "id"]


async def test_http_1_0_client_gets_events_without_chunks(here: ServedReplica) -> None:
    """HTTP/1.0 has none: the answer ends with the connection."""
    host, port = here.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/stream?channels=btc_usd&timer=0 HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head
        await here.publish(rate(BTC, "1.5"))
        first = await reader.readuntil(b"\n\n")
        assert first.startswith(b"retry: 3000\nevent: ")
        here.deps.hub.close()
        rest = await reader.read()
    writer.close()
    assert rest.startswith(b"event: ")
    assert rest.endswith(b"}\n\n")
    assert {line.partition(b":")[0] for line in rest.splitlines() if line} <= {b"id", b"event", b"data"}


async def test_unknown_position_gets_a_reset_and_a_snapshot(here: ServedReplica) -> None:
    await here.publish(candle(0, 100))
    for unknown in (5, 2**53 - 1):
        async with connect_client(here) as one:
            await one.send(action="resume", symbol="BTCUSDT", timeframe="1m", after=unknown)
            assert (await one.next("reset"))["channels"] == ["candles:BTCUSDT:1m"]
            assert (await one.next("snapshot"))["data"]["close"] == 100
            await here.publish(candle(0, 100))
            assert (await one.next("price_update"))["data"]["close"] == 100


async def test_resuming_waits_for_an_entry_that_the_journal_lacks() -> None:
    journal, words = MemoryJournal(), {"symbol": "BTCUSDT", "timeframe": "1m"}
    async with (
        serve_replica(journal) as here,
        serve_replica(journal) as other,
        connect_client(here) as one,
        connect_client(other) as before,
    ):
        await here.publish(candle(0, 100))
        await before.send(action="subscribe", **words)
        await before.next("subscribed")
        ahead = sequenced_publisher(other.deps)
        await ahead.publish_unjournaled(candle(0, 101))
        seen = (await before.next("price_update"))["seq"]
        await one.send(action="resume", after=seen, **words)
        await one.next("resumed")
        await asyncio.sleep(0.1)
        await ahead.flush_journal()
        await sequenced_publisher(here.deps).publish(candle(0, 102))
        heard = await one.next()
        assert (heard["type"], heard["data"]["close"]) == ("price_update", 102)


async def test_ended_candle_that_was_not_closed_is_no_snapshot(
    here: ServedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is over, and nothing was heard of it for a while."""
    await here.publish(candle(0, 100))
    async with connect_client(here) as one:
        await one.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        assert (await one.next("snapshot"))["data"]["closed"] is False
        monkeypatch.setattr(snapshots, "FORMING_GRACE_MS", 0)
        await one.send(action="unsubscribe", symbol="BTCUSDT", timeframe="1m")
        await one.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await one.send(action="ping")
        assert [(await one.next())["type"] for _ in range(3)] == ["unsubscribed", "subscribed", "pong"]


async def test_entries_that_the_bus_lost_are_sent_from_the_journal(here: ServedReplica) -> None:
    await here.publish(candle(0, 100))
    async with connect_client(here) as one:
        await one.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await one.next("snapshot")
        lost = sequenced_publisher(dataclasses.replace(here.deps, bus=MemoryBus()))
        await lost.publish(candle(0, 101), candle(0, 102))
        assert [(await one.next("price_update"))["data"]["close"] for _ in range(2)] == [101, 102]
        successor = sequenced_publisher(here.deps)
        await successor.publish(candle(0, 103), candle(0, 104))
        assert [(await one.next("price_update"))["data"]["close"] for _ in range(2)] == [103, 104]


async def test_client_of_one_rate_gets_all_its_entries_and_no_others(here: ServedReplica) -> None:
    await here.publish(rate(BTC, "1"), rate(ETH, "1"))
    async with connect_client(here) as one:
        await one.send(action="subscribe", channels=["btc_usd"])
        await one.next("snapshot")
        for value in range(2, 50):
            await here.publish(rate(ETH, str(value)))
        await here.publish(rate(BTC, "2"))
        assert (await one.next())["data"]["value"] == "2"
        lost = sequenced_publisher(dataclasses.replace(here.deps, bus=MemoryBus()))
        await lost.publish(rate(ETH, "50"), rate(BTC, "3"), rate(ETH, "51"))
        await sequenced_publisher(here.deps).publish(rate(ETH, "52"), rate(BTC, "4"))
        assert [(await one.next())["data"]["value"] for _ in range(2)] == ["3", "4"]


async def test_rate_is_sent_at_the_clients_interval(here: ServedReplica) -> None:
    await here.publish(rate(BTC, "1"))
    async with open_event_stream(here, "btc_usd", timer="0.2") as stream:
        assert (await stream.next()).data["snapshot"]
        for value in range(2, 50):
            await here.publish(rate(BTC, str(value)))
        assert (await stream.next()).data["value"] == "49"
    async with open_event_stream(here, "btc_usd", timer="0") as stream:
        await stream.next()
        for value in range(50, 60):
            await here.publish(rate(BTC, str(value)))
        assert [(await stream.next()).data["value"] for _ in range(10)] == [str(value) for value in range(50, 60)]


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ({}, 400, "channels is missing: write channels="),
        ({"channels": "btc_usdd"}, 422, "did you mean btc_usd"),
        ({"channels": "btc_usd", "timer": "soon"}, 400, "timer"),
        ({"channels": "btc_usd", "timer": "-1"}, 422, "timer"),
        ({"channels": "btc_usd", "timer": "nan"}, 422, "timer"),
        ({"channels": "btc_usd", "after": "1,2"}, 400, "cursor"),
    ],
)
async def test_invalid_stream_query_is_refused(
    here: ServedReplica, query: Mapping[str, str], status: int, part: str
) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(here.stream_url, params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert part in answer.json()["detail"]


async def test_foreign_origins_and_too_many_connections_are_refused() -> None:
    async with serve_replica(websocket_max_connections=3, stream_address_connections=2) as running:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect_client(running, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        for origin in (None, "http://localhost:5173", f"http://{running.address}"):
            async with connect_client(running, origin=origin) as one:
                await one.next("welcome")
        async with connect_client(running), connect_client(running):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with connect_client(running):
                    pass
            assert refused.value.response.status_code == 429
            async with httpx.AsyncClient() as http:
                assert (await http.get(running.stream_url, params={"channels": "btc_usd"})).status_code == 429
        async with connect_client(running), connect_client(running):
            pass


async def test_too_many_or_too_long_messages_close_the_connection(here: ServedReplica) -> None:
    async with connect_client(here) as one:
        with suppress(websockets.ConnectionClosed):
            for _ in range(1_000):
                await one.send(action="ping")
                await asyncio.sleep(0)
        assert await one.close_code() == 4400
    async with connect_client(here) as one:
        await one.connection.send("x" * 100_000)
        assert await one.close_code() == 1009


async def test_channel_names_are_accepted_in_any_case(here: ServedReplica) -> None:
    await here.publish(candle(0, 100), rate(BTC, "1"))
    async with connect_client(here) as one:
        channels = ["Candles:binance:btc-usdt:1m", "BTC_usd", "COURSES"]
        await one.send(action="subscribe", channels=channels)
        assert [(await one.next("snapshot"))["channel"] for _ in channels] == channels


async def test_every_closing_code_is_in_the_docs(here: ServedReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    codes = {4001}  # for which half a minute has to pass
    for sent in (b"\x81\x01a", b"\x81\x81\0\0\0\0\xff"):  # unmasked; no UTF-8
        async with connect_client(here) as one:
            await one.next("welcome")
            one.connection.transport.write(sent)
            codes.add(await one.close_code() or 0)
    async with connect_client(here) as one:
        await one.connection.send("x" * 100_000)
        codes.add(await one.close_code() or 0)
    async with connect_client(here) as one:
        with suppress(websockets.ConnectionClosed):
            for _ in range(200):
                await one.send(action="ping")
        codes.add(await one.close_code() or 0)
    with monkeypatch.context() as patched:
        patched.setattr(ChannelResolver, "resolve_all", fail)
        async with connect_client(here) as one:
            await one.send(action="subscribe", channels=["btc_usd"])
            codes.add(await one.close_code() or 0)
    async with connect_client(here) as one:
        await one.next("welcome")
        here.deps.hub.close()
        codes.add(await one.close_code() or 0)
    docs = Path(__file__).parents[2] / "docs"
    table = re.findall(r"^\| (\d{4}) \|", (docs / "streams.md").read_text(), re.MULTILINE)
    described = yaml.safe_load((docs / "asyncapi.yaml").read_text())["channels"]["socket"]["description"]
    assert codes == {1002, 1007, 1009, 1011, 4000, 4001, 4400}
    assert codes | {1006} == set(map(int, table)) == set(map(int, re.findall(r"\b\d{4}\b", described)))


async def test_stalled_client_skips_to_the_newest_and_delays_no_other(here: ServedReplica) -> None:
    await here.publish(candle(0, 0))
    reader, writer = await connect_stalled(here)
    count = 12_000  # more than all buffers in between hold
    async with connect_client(here, max_queue=None) as other:
        await other.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await other.next("snapshot")
        for close in range(1, count + 1):
            await here.publish(candle(0, close))
        closes = [(await other.next("price_update"))["data"]["close"] for _ in range(count)]
        assert closes == list(range(1, count + 1))
    text = b""
    async with asyncio.timeout(20):
        while b'"skipped"' not in text or b'"type":"snapshot"' not in text.partition(b'"skipped"')[2]:
            text += await reader.read(65_536)
    assert b'"close":%d,' % count in text.partition(b'"skipped"')[2]
    assert text.count(b"price_update") < count
    writer.close()


async def test_random_clients_delay_no_other_and_leave_no_task(here: ServedReplica) -> None:
    chance = random.Random(5)
    await here.publish(candle(0, 0))
    async with connect_client(here, max_queue=None) as other:
        await other.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await other.next("snapshot")
        before = len(asyncio.all_tasks())
        await asyncio.gather(*(run_hostile_client(here, random.Random(chance.random())) for _ in range(60)))
        for close in range(1, 50):
            await here.publish(candle(0, close))
        assert [(await other.next("price_update"))["data"]["close"] for _ in range(1, 50)] == list(range(1, 50))
        await eventually(lambda: len(asyncio.all_tasks()) <= before, 20)


async def run_hostile_client(here: ServedReplica, chance: random.Random) -> None:
    """A client that sends whatever comes to its mind, and goes as it pleases."""
    host, port = here.address.split(":")
    good = [
        b'{"action":"subscribe","symbol":"BTCUSDT","timeframe":"1m"}',
        b'{"action":"subscribe","channels":["courses"],"timer":1e400}',
        b'{"action":"unsubscribe","channels":["courses"]}',
        b'{"action":"resume","channels":["btc_usd","courses"],"after":[0,99999999999999]}',
        b'{"action":"ping","id":{"a":1}}',
    ]
    reader, writer = await asyncio.open_connection(host, int(port))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    head = f"GET /ws/chart-data HTTP/1.1\r\nHost: {here.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        for _ in range(chance.randrange(1, 40)):
            payload = chance.choice([*good, chance.randbytes(chance.randrange(120))])[:125]
            opcode = chance.choice((0x1, 0x1, 0x1, 0x2, 0x0, 0x9, 0xA, 0x8, 0x5))
            writer.write(bytes((0x80 | opcode, 0x80 | len(payload))) + b"\0\0\0\0" + payload)
            if chance.random() < 0.2:
                await writer.drain()
        if chance.random() < 0.5:
            writer.write(b"\x81\xfe")  # half a frame
    except ConnectionError:
        pass
    writer.transport.abort() if chance.random() < 0.5 else writer.close()


async def test_stopping_replica_disconnects_clients_and_refuses_new_ones(here: ServedReplica) -> None:
    async with connect_client(here) as one, open_event_stream(here, "btc_usd") as stream:
        await one.next("welcome")
        await eventually(lambda: stream.begun)
        here.deps.hub.close()
        assert (await stream.next()).name == "closing"
        assert await one.close_code() == 4000
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect_client(here):
                pass
        assert refused.value.response.status_code == 503
