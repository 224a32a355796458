"""Live streams over real sockets: messages, resuming, invalid requests, slow clients, the stop of a replica."""

import asyncio
import dataclasses
import random
import re
import time
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
async def replica() -> AsyncIterator[ServedReplica]:
    async with serve_replica() as running:
        yield running


async def test_websocket_messages_of_a_candle_channel(replica: ServedReplica) -> None:
    await replica.publish(candle(0, 100))
    async with connect_client(replica) as client:
        welcome = await client.next()
        assert welcome["type"] == "welcome"
        assert welcome["message"]
        await client.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        assert await client.next() == {"type": "subscribed", "symbol": "BTCUSDT", "timeframe": "1m"}
        snapshot = await client.next()
        assert (snapshot["type"], snapshot["data"]["close"], snapshot["symbol"]) == ("snapshot", 100, "BTCUSDT")
        await replica.publish(candle(0, 105))
        update = await client.next()
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
        assert update["seq"] > snapshot["seq"]
        await replica.publish(candle(0, 106, closed=True), candle(1, 107), candle(0, 108, closed=True, revision=1))
        rows = [(await client.next("price_update"))["data"] for _ in range(3)]
        assert [(row["closed"], row["close"], row["revision"]) for row in rows] == [
            (True, 106, 0),
            (False, 107, 0),
            (True, 108, 1),
        ]
        await client.send(action="unsubscribe", symbol="BTCUSDT", timeframe="1m", id=7)
        assert await client.next() == {"type": "unsubscribed", "symbol": "BTCUSDT", "timeframe": "1m", "id": 7}
        await replica.publish(candle(1, 109))
        await client.send(action="ping", id="last")
        assert await client.next() == {"type": "pong", "id": "last"}


async def test_indicators_rates_and_exchange_statuses_are_channels(replica: ServedReplica) -> None:
    await replica.publish(rate(BTC, "100.5"), rate(ETH, "7"), exchange_status(True, "connected"))
    async with connect_client(replica) as client:
        await client.next("welcome")
        await client.send(action="subscribe", symbols=["BTCUSDT"], timeframe="1m", indicators=["sma:20"], id=1)
        confirmed = {"type": "subscribed", "symbol": "BTCUSDT", "timeframe": "1m", "indicators": ["sma:20"], "id": 1}
        assert await client.next() == confirmed
        await client.send(action="subscribe", channels=["btc_usd", "courses", "connection", "source_changed"])
        names = ["btc_usd", "courses", "connection", "source_changed"]
        assert await client.next() == {"type": "subscribed", "channels": names}
        snapshot = [await client.next() for _ in range(4)]
        assert [row["channel"] for row in snapshot] == ["btc_usd", "courses", "courses", "connection"]
        assert snapshot[0]["data"]["value"] == "100.5"
        await replica.publish(IndicatorValue(SERIES, "sma:20", START, {"sma": 101.25}, closed=False))
        assert (await client.next())["data"] == {"timestamp": START, "values": {"sma": 101.25}, "closed": False}
        await replica.publish(rate(ETH, "8"))
        update = await client.next()
        assert (update["type"], update["channel"]) == ("courses_update", "courses")
        assert (update["data"]["direction"], update["data"]["value"]) == ("ETH-USD", "8")
        await replica.publish(rate(ETH, "8"))  # unchanged, so it is not sent
        switch = ExchangeSwitch(1, "binance", "deribit", "why")
        await replica.publish(exchange_status(False, "cut off"), ActiveExchange(1, "deribit", 1, "", 1, (switch,)))
        connection, source = await client.next(), await client.next()
        assert (connection["type"], connection["data"]["reason"]) == ("connection", "cut off")
        switched = source["data"]
        assert (source["type"], switched["previous"], switched["exchange"]) == ("source_changed", "binance", "deribit")
    assert IndicatorRequest(SERIES, "sma:20", 0) in [
        replace(request, until=0) for request in replica.indicator_requests
    ]


@pytest.mark.parametrize(
    ("message", "code", "part"),
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
async def test_invalid_request_gets_an_error(replica: ServedReplica, message: str, code: str, part: str) -> None:
    async with connect_client(replica) as client:
        await client.next("welcome")
        await client.connection.send(message)
        error = await client.next()
        assert (error["type"], error["code"], "id" in error) == ("error", code, False)
        assert part in error["message"]
        if message.startswith('{"'):
            await client.connection.send(message.replace("{", '{"id":8,', 1))
            assert await client.next() == {**error, "id": 8}
        await client.send(action="ping")
        assert await client.next() == {"type": "pong"}


async def test_client_resumes_from_seq_over_websocket_sse_and_http(
    replica: ServedReplica,
) -> None:
    await replica.publish(candle(0, 100))
    async with connect_client(replica) as client:
        await client.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        seen = (await client.next("snapshot"))["seq"]
    await replica.publish(*(candle(0, close) for close in range(101, 110)))
    async with connect_client(replica) as client:
        await client.send(action="resume", symbol="BTCUSDT", timeframe="1m", after=seen)
        assert (await client.next("resumed"))["symbol"] == "BTCUSDT"
        assert [(await client.next())["data"]["close"] for _ in range(9)] == list(range(101, 110))
        await replica.publish(candle(0, 110))
        assert (await client.next())["data"]["close"] == 110
    async with open_event_stream(replica, "candles:BTCUSDT:1m", headers={"Last-Event-ID": str(seen)}) as stream:
        events = [await stream.next() for _ in range(10)]
        assert [event.data["close"] for event in events] == list(range(101, 111))
        assert {event.name for event in events} == {"candles:BTCUSDT:1m"}
    query = {"channels": "candles:BTCUSDT:1m", "after": events[4].id, "limit": "3"}
    async with httpx.AsyncClient() as http:
        page = (await http.get(f"{replica.stream_url}/history", params=query)).raise_for_status().json()
        assert [event["data"]["close"] for event in page["events"]] == [106, 107, 108]
        rest = (await http.get(f"{replica.stream_url}/history", params={**query, "after": page["cursor"]})).json()
        assert [event["data"]["close"] for event in rest["events"]] == [109, 110]
        assert rest["cursor"] == events[-1].id
        lost = (await http.get(f"{replica.stream_url}/history", params={**query, "after": "5"})).json()
        assert (lost["events"], lost["reset"]) == ([], ["candles:BTCUSDT:1m"])


async def test_every_block_of_the_event_stream_is_a_complete_event(replica: ServedReplica) -> None:
    """Some clients make an empty event of a comment or `retry` that is followed by an empty line."""
    text = ""
    url = f"{replica.stream_url}?channels=btc_usd&timer=0"
    async with asyncio.timeout(60), httpx.AsyncClient() as http, http.stream("GET", url, timeout=60) as answer:
        async for piece in answer.aiter_text():
            text += piece
            if text.count("\n:") >= 2 and text.endswith("\n\n"):
                break
            await replica.publish(rate(BTC, str(len(text))))
    assert text.startswith("retry: 3000\n")
    for block in text[:-2].split("\n\n"):
        names = [line.partition(":")[0] for line in block.splitlines()]
        # a client that had the id without the data would not resume at an event that was cut off in between
        assert names[-3:] == ["event", "data", "id"]


async def test_http_1_0_client_receives_events_without_chunks(replica: ServedReplica) -> None:
    """HTTP/1.0 has no chunks: the response ends with the connection."""
    host, port = replica.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/stream?channels=btc_usd&timer=0 HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head
        await replica.publish(rate(BTC, "1.5"))
        first = await reader.readuntil(b"\n\n")
        assert first.startswith(b"retry: 3000\nevent: ")
        replica.deps.hub.close()
        rest = await reader.read()
    writer.close()
    assert rest.startswith(b"event: ")
    assert rest.endswith(b"}\n\n")
    assert {line.partition(b":")[0] for line in rest.splitlines() if line} <= {b"id", b"event", b"data"}


async def test_unknown_position_gets_a_reset_and_a_snapshot(replica: ServedReplica) -> None:
    await replica.publish(candle(0, 100))
    for unknown in (5, 2**53 - 1):
        async with connect_client(replica) as client:
            await client.send(action="resume", symbol="BTCUSDT", timeframe="1m", after=unknown)
            assert (await client.next("reset"))["channels"] == ["candles:BTCUSDT:1m"]
            assert (await client.next("snapshot"))["data"]["close"] == 100
            await replica.publish(candle(0, 100))
            assert (await client.next("price_update"))["data"]["close"] == 100


async def test_resuming_waits_for_an_entry_that_the_journal_lacks() -> None:
    journal, subscription = MemoryJournal(), {"symbol": "BTCUSDT", "timeframe": "1m"}
    async with (
        serve_replica(journal) as replica,
        serve_replica(journal) as other,
        connect_client(replica) as client,
        connect_client(other) as earlier,
    ):
        await replica.publish(candle(0, 100))
        await earlier.send(action="subscribe", **subscription)
        await earlier.next("subscribed")
        ahead = sequenced_publisher(other.deps)
        await ahead.publish_unjournaled(candle(0, 101))
        seen = (await earlier.next("price_update"))["seq"]
        await client.send(action="resume", after=seen, **subscription)
        await client.next("resumed")
        await asyncio.sleep(0.1)
        await ahead.flush_journal()
        await sequenced_publisher(replica.deps).publish(candle(0, 102))
        update = await client.next()
        assert (update["type"], update["data"]["close"]) == ("price_update", 102)


async def test_ended_candle_that_was_never_closed_is_not_sent_as_snapshot(
    replica: ServedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is over, and no update has come for a while."""
    await replica.publish(candle(0, 100))
    async with connect_client(replica) as client:
        await client.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        assert (await client.next("snapshot"))["data"]["closed"] is False
        monkeypatch.setattr(snapshots, "FORMING_GRACE_MS", 0)
        await client.send(action="unsubscribe", symbol="BTCUSDT", timeframe="1m")
        await client.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await client.send(action="ping")
        assert [(await client.next())["type"] for _ in range(3)] == ["unsubscribed", "subscribed", "pong"]


async def test_entries_that_the_bus_lost_are_sent_from_the_journal(replica: ServedReplica) -> None:
    await replica.publish(candle(0, 100))
    async with connect_client(replica) as client:
        await client.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await client.next("snapshot")
        lost = sequenced_publisher(dataclasses.replace(replica.deps, bus=MemoryBus()))
        await lost.publish(candle(0, 101), candle(0, 102))
        assert [(await client.next("price_update"))["data"]["close"] for _ in range(2)] == [101, 102]
        successor = sequenced_publisher(replica.deps)
        await successor.publish(candle(0, 103), candle(0, 104))
        assert [(await client.next("price_update"))["data"]["close"] for _ in range(2)] == [103, 104]


async def test_client_of_one_rate_gets_all_its_entries_and_no_others(replica: ServedReplica) -> None:
    await replica.publish(rate(BTC, "1"), rate(ETH, "1"))
    async with connect_client(replica) as client:
        await client.send(action="subscribe", channels=["btc_usd"])
        await client.next("snapshot")
        for value in range(2, 50):
            await replica.publish(rate(ETH, str(value)))
        await replica.publish(rate(BTC, "2"))
        assert (await client.next())["data"]["value"] == "2"
        lost = sequenced_publisher(dataclasses.replace(replica.deps, bus=MemoryBus()))
        await lost.publish(rate(ETH, "50"), rate(BTC, "3"), rate(ETH, "51"))
        await sequenced_publisher(replica.deps).publish(rate(ETH, "52"), rate(BTC, "4"))
        assert [(await client.next())["data"]["value"] for _ in range(2)] == ["3", "4"]


async def test_rate_is_sent_at_the_clients_interval(replica: ServedReplica) -> None:
    await replica.publish(rate(BTC, "1"))
    async with open_event_stream(replica, "btc_usd", timer="0.2") as stream:
        assert (await stream.next()).data["snapshot"]
        started, values = time.monotonic(), list[str]()
        for value in range(2, 50):
            await replica.publish(rate(BTC, str(value)))
        while values[-1:] != ["49"]:
            values.append((await stream.next()).data["value"])
        assert len(values) <= 1 + (time.monotonic() - started) / 0.2
    async with open_event_stream(replica, "btc_usd", timer="0") as stream:
        await stream.next()
        for value in range(50, 60):
            await replica.publish(rate(BTC, str(value)))
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
    replica: ServedReplica, query: Mapping[str, str], status: int, part: str
) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(replica.stream_url, params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert part in answer.json()["detail"]


async def test_foreign_origins_and_too_many_connections_are_refused() -> None:
    async with serve_replica(websocket_max_connections=3, stream_address_connections=2) as running:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect_client(running, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        for origin in (None, "http://localhost:5173", f"http://{running.address}"):
            async with connect_client(running, origin=origin) as client:
                await client.next("welcome")
        async with connect_client(running), connect_client(running):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with connect_client(running):
                    pass
            assert refused.value.response.status_code == 429
            async with httpx.AsyncClient() as http:
                assert (await http.get(running.stream_url, params={"channels": "btc_usd"})).status_code == 429
        async with connect_client(running), connect_client(running):
            pass


async def test_too_many_or_too_long_messages_close_the_connection(replica: ServedReplica) -> None:
    async with connect_client(replica) as client:
        with suppress(websockets.ConnectionClosed):
            for _ in range(1_000):
                await client.send(action="ping")
                await asyncio.sleep(0)
        assert await client.close_code() == 4400
    async with connect_client(replica) as client:
        await client.connection.send("x" * 100_000)
        assert await client.close_code() == 1009


async def test_channel_names_are_accepted_in_any_case(replica: ServedReplica) -> None:
    await replica.publish(candle(0, 100), rate(BTC, "1"))
    async with connect_client(replica) as client:
        channels = ["Candles:binance:btc-usdt:1m", "BTC_usd", "COURSES"]
        await client.send(action="subscribe", channels=channels)
        assert [(await client.next("snapshot"))["channel"] for _ in channels] == channels


async def test_docs_list_every_closing_code(replica: ServedReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    codes = {4001}  # which takes half a minute
    for sent in (b"\x81\x01a", b"\x81\x81\0\0\0\0\xff"):  # without a mask; not UTF-8
        async with connect_client(replica) as client:
            await client.next("welcome")
            client.connection.transport.write(sent)
            codes.add(await client.close_code() or 0)
    async with connect_client(replica) as client:
        await client.connection.send("x" * 100_000)
        codes.add(await client.close_code() or 0)
    async with connect_client(replica) as client:
        with suppress(websockets.ConnectionClosed):
            for _ in range(200):
                await client.send(action="ping")
        codes.add(await client.close_code() or 0)
    with monkeypatch.context() as patched:
        patched.setattr(ChannelResolver, "resolve_all", fail)
        async with connect_client(replica) as client:
            await client.send(action="subscribe", channels=["btc_usd"])
            codes.add(await client.close_code() or 0)
    async with connect_client(replica) as client:
        await client.next("welcome")
        replica.deps.hub.close()
        codes.add(await client.close_code() or 0)
    docs = Path(__file__).parents[2] / "docs"
    table = re.findall(r"^\| (\d{4}) \|", (docs / "streams.md").read_text(), re.MULTILINE)
    described = yaml.safe_load((docs / "asyncapi.yaml").read_text())["channels"]["socket"]["description"]
    assert codes == {1002, 1007, 1009, 1011, 4000, 4001, 4400}
    assert codes | {1006, 4401} == set(map(int, table)) == set(map(int, re.findall(r"\b\d{4}\b", described)))


async def test_stalled_client_skips_to_the_newest_and_delays_no_other(replica: ServedReplica) -> None:
    await replica.publish(candle(0, 0))
    reader, writer = await connect_stalled(replica)
    count = 2_000  # more than the 650 that all buffers hold, and published well within DRAIN_TIMEOUT_SECONDS
    async with connect_client(replica, max_queue=None) as other:
        await other.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await other.next("snapshot")
        for close in range(1, count + 1):
            await replica.publish(candle(0, close))
        closes = [(await other.next("price_update"))["data"]["close"] for _ in range(count)]
        assert closes == list(range(1, count + 1))
    text = b""
    async with asyncio.timeout(60):
        while b'"skipped"' not in text or b'"type":"snapshot"' not in text.partition(b'"skipped"')[2]:
            text += await reader.read(65_536)
    assert b'"close":%d,' % count in text.partition(b'"skipped"')[2]
    assert text.count(b"price_update") < count
    writer.close()


async def test_clients_with_random_frames_delay_no_other_and_leave_no_task(replica: ServedReplica) -> None:
    chance = random.Random(5)
    await replica.publish(candle(0, 0))
    async with connect_client(replica, max_queue=None) as other:
        await other.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await other.next("snapshot")
        before = len(asyncio.all_tasks())
        await asyncio.gather(*(run_hostile_client(replica, random.Random(chance.random())) for _ in range(60)))
        for close in range(1, 50):
            await replica.publish(candle(0, close))
        assert [(await other.next("price_update"))["data"]["close"] for _ in range(1, 50)] == list(range(1, 50))
        await eventually(lambda: len(asyncio.all_tasks()) <= before)


async def run_hostile_client(replica: ServedReplica, chance: random.Random) -> None:
    """Send random frames, then disconnect in a random way."""
    host, port = replica.address.split(":")
    valid = [
        b'{"action":"subscribe","symbol":"BTCUSDT","timeframe":"1m"}',
        b'{"action":"subscribe","channels":["courses"],"timer":1e400}',
        b'{"action":"unsubscribe","channels":["courses"]}',
        b'{"action":"resume","channels":["btc_usd","courses"],"after":[0,99999999999999]}',
        b'{"action":"ping","id":{"a":1}}',
    ]
    reader, writer = await asyncio.open_connection(host, int(port))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    head = f"GET /ws/chart-data HTTP/1.1\r\nHost: {replica.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        for _ in range(chance.randrange(1, 40)):
            payload = chance.choice([*valid, chance.randbytes(chance.randrange(120))])[:125]
            opcode = chance.choice((0x1, 0x1, 0x1, 0x2, 0x0, 0x9, 0xA, 0x8, 0x5))
            writer.write(bytes((0x80 | opcode, 0x80 | len(payload))) + b"\0\0\0\0" + payload)
            if chance.random() < 0.2:
                await writer.drain()
        if chance.random() < 0.5:
            writer.write(b"\x81\xfe")  # half a frame
    except ConnectionError:
        pass
    writer.transport.abort() if chance.random() < 0.5 else writer.close()


async def test_stopping_replica_disconnects_clients_and_refuses_new_ones(replica: ServedReplica) -> None:
    async with connect_client(replica) as client, open_event_stream(replica, "btc_usd") as stream:
        await client.next("welcome")
        await eventually(lambda: stream.begun)
        replica.deps.hub.close()
        assert (await stream.next()).name == "closing"
        assert await client.close_code() == 4000
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect_client(replica):
                pass
        assert refused.value.response.status_code == 503
