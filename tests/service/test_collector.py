"""The collector with simulated exchanges, also faulty ones."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise

import httpx
import msgspec
import pytest
import pytest_asyncio
from websockets.asyncio.server import ServerConnection, serve

from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus
from services.collector.exchange_feed import ExchangeFeed
from services.collector.reachability import unreachable_reason
from services.collector.rest_client import RestClient, RestError
from services.core.errors import Unavailable
from services.core.exchange import Exchange, RestCall
from services.core.model import ExchangeStatus, FeedStatus, Instrument, Message, Quote, Trade
from services.exchanges import configured_exchanges
from services.settings import Settings, load
from tests.simulator import CollectedMessages, SimulatorServer, is_gapless, run_collector, run_simulator
from tests.waiting import eventually

PAIRS = ("BTC-USDT", "ETH-USDT", "USDC-USDT")
LEARNING_SECONDS = 5.5  # then the silence detector knows the pauses of an instrument


@pytest_asyncio.fixture(scope="module")
async def shared_market() -> AsyncIterator[SimulatorServer]:
    async with run_simulator() as market:
        yield market


@pytest_asyncio.fixture
async def market(shared_market: SimulatorServer) -> AsyncIterator[SimulatorServer]:
    yield shared_market
    await shared_market.clear_faults()


def is_complete(collected: CollectedMessages) -> bool:
    """Return whether no trade is missing or duplicate, and no feed gap was published."""
    return not collected.feed_gaps and all(is_gapless(collected.trade_ids(pair)) for pair in PAIRS)


def is_live(collected: CollectedMessages, exchange: str, *pairs: str) -> bool:
    return all(collected.feed_status(exchange, pair) is FeedStatus.LIVE for pair in pairs)


async def test_quotes_and_trades_of_all_three_exchanges_are_collected(market: SimulatorServer) -> None:
    exchanges = [market.exchange(name) for name in ("binance", "deribit", "coingecko")]
    async with run_collector(*exchanges) as collected:
        await eventually(lambda: is_live(collected, "binance", *PAIRS))
        await eventually(lambda: is_live(collected, "deribit", "BTC-USD", "ETH-USD", "USDC-USDT", "BTC-USD-PERPETUAL"))
        await eventually(lambda: is_live(collected, "coingecko", "BTC-USD", "BTC-RUB", "USDT-RUB", "USDC-USD"))
        await eventually(lambda: collected.trade_ids("BTC-USDT"))
    for state in (collected.last_status(exchange.name) for exchange in exchanges):
        assert state
        assert (state.connected, state.simulated, state.reconnects) == (True, True, 0)
        assert state.transport == ("polling" if state.exchange == "coingecko" else "socket")
        for source in state.feeds:
            assert source.received
            assert source.confirmed
            assert source.received <= source.confirmed <= state.time


async def test_published_messages_equal_the_sent_frames(market: SimulatorServer) -> None:
    before = (await market.ledger())["entries"]
    async with run_collector(market.exchange("binance", poll=None), conflate_ms=0) as collected:
        await eventually(lambda: len(collected.trade_ids("BTC-USDT")) > 10)
        quotes = {(str(tick.instrument), f"{tick.bid}/{tick.ask}") for tick in collected.quotes("binance")}
        sent = [entry for entry in (await market.ledger())["entries"] if entry not in before]
        sent_trades = {pair: [e for e in sent if (e["instrument"], e["kind"]) == (pair, "trade")] for pair in PAIRS}
        await eventually(
            lambda: all(int(t[-1]["id"]) in collected.trade_ids(pair) for pair, t in sent_trades.items() if t)
        )
    for pair, trades in sent_trades.items():
        if not trades:
            continue
        first = int(trades[0]["id"])  # earlier ones were fetched, to complete the minute
        mine = (trade for trade in collected.all_trades if str(trade.instrument) == pair and trade.trade_id >= first)
        ours = [(str(trade.trade_id), str(trade.price)) for trade in mine]
        assert ours[: len(trades)] == [(trade["id"], trade["price"]) for trade in trades]
    assert quotes
    assert quotes <= {(entry["instrument"], entry["price"]) for entry in sent if entry["kind"] == "quote"}


async def test_muted_instrument_is_silent_and_others_stay_live(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance")) as collected:
        await eventually(lambda: is_live(collected, "binance", *PAIRS))
        await asyncio.sleep(LEARNING_SECONDS)
        await market.fault("binance", "mute", "BTC-USDT")
        assert await eventually(lambda: collected.feed_status("binance", "BTC-USDT") is FeedStatus.SILENT) > 2
        source = collected.instrument_feed("binance", "BTC-USDT")
        assert source
        assert source.confirmed == source.received
        assert is_live(collected, "binance", "ETH-USDT", "USDC-USDT")
        await market.clear_faults()
        await eventually(lambda: is_live(collected, "binance", "BTC-USDT"))
        await eventually(lambda: is_complete(collected))


async def test_unchanging_quote_is_published_at_the_start(market: SimulatorServer) -> None:
    await market.fault("binance", "mute", "USDC-USDT")
    async with run_collector(market.exchange("binance")) as collected:
        await eventually(lambda: any(str(tick.instrument) == "USDC-USDT" for tick in collected.quotes("binance")))
        await eventually(lambda: is_live(collected, "binance", *PAIRS))
        assert {state.transport for state in collected.statuses if state.connected} == {"socket"}


async def test_late_subscriber_soon_receives_an_unchanging_quote(market: SimulatorServer) -> None:
    bus, late = MemoryBus(), list[Message]()
    async with run_collector(market.exchange("coingecko", poll_seconds=3600.0), bus=bus) as collected:
        await eventually(lambda: collected.quotes("coingecko"))
        async with bus.subscribe(Quote) as messages, asyncio.timeout(30):
            late.append(await anext(messages))
    assert late[0] in collected.all_quotes[: len(collected.all_quotes) // 2]


async def test_connection_without_any_message_is_replaced(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance")) as collected:
        await eventually(lambda: is_live(collected, "binance", *PAIRS))
        await asyncio.sleep(LEARNING_SECONDS)
        await market.fault("binance", "mute", rest=1)
        await eventually(lambda: "no message for" in getattr(collected.last_status("binance"), "reason", ""))
        await market.clear_faults()
        await eventually(lambda: is_live(collected, "binance", *PAIRS))
        await eventually(lambda: is_complete(collected))


async def test_trades_during_an_outage_are_fetched_afterwards(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance")) as collected:
        await eventually(lambda: is_live(collected, "binance", *PAIRS) and all(map(collected.trade_ids, PAIRS)))
        await market.fault("binance", "kill")
        await eventually(lambda: getattr(collected.last_status("binance"), "connected", True) is False)
        stopped = collected.instrument_feed("binance", "BTC-USDT")
        await asyncio.sleep(3)
        assert stopped
        assert collected.instrument_feed("binance", "BTC-USDT").confirmed == stopped.confirmed  # type: ignore[union-attr]
        before = {pair: len(collected.trade_ids(pair)) for pair in PAIRS}
        await market.clear_faults()
        await eventually(lambda: getattr(collected.last_status("binance"), "transport", "") == "socket")
        await eventually(lambda: all(len(collected.trade_ids(pair)) > count for pair, count in before.items()))
        assert is_complete(collected)


async def test_trades_that_cannot_be_fetched_are_a_feed_gap(
    market: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.collector.trade_gaps.ABANDON_AFTER_MS", 1_000)
    nothing = RestCall("/api/v3/nothing", lambda body, now: [])
    without_refetch = market.exchange("binance", poll=None, refetch_trades=lambda instrument, ids: nothing)
    async with run_collector(without_refetch) as collected:
        await eventually(lambda: collected.trade_ids("BTC-USDT"))
        await market.fault("binance", "kill", seconds=3)
        await eventually(lambda: any(str(gap.instrument) == "BTC-USDT" for gap in collected.feed_gaps))
        await eventually(lambda: not is_gapless(collected.trade_ids("BTC-USDT")))
    gap, numbers = (
        next(gap for gap in collected.feed_gaps if str(gap.instrument) == "BTC-USDT"),
        collected.trade_ids("BTC-USDT"),
    )
    before, after = next(pair for pair in pairwise(numbers) if pair[1] != pair[0] + 1)
    assert gap.reason == f"{after - before - 1} trades from {before + 1} are missing"
    assert gap.since < gap.until
    assert sorted(set(numbers)) == numbers


async def test_outage_of_an_exchange_without_trades_is_a_feed_gap(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("deribit")) as collected:
        await eventually(lambda: is_live(collected, "deribit", "BTC-USD"))
        await market.fault("deribit", "kill", seconds=1)
        await eventually(lambda: collected.feed_gaps)
        lost = next(state for state in collected.statuses if not state.connected and state.received)
    (gap,) = collected.feed_gaps
    assert (gap.exchange, gap.instrument, gap.since) == ("deribit", None, lost.received)
    assert 1_000 <= gap.until - gap.since < 60_000


async def test_connection_with_malformed_messages_is_replaced_and_logged_once(
    market: SimulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with run_collector(market.exchange("binance")) as collected:
        await eventually(lambda: is_live(collected, "binance", *PAIRS))
        await market.fault("binance", "garbage")
        await eventually(lambda: "cannot be parsed" in getattr(collected.last_status("binance"), "reason", ""))
        await market.clear_faults()
        await eventually(lambda: is_live(collected, "binance", *PAIRS))
        await eventually(lambda: is_complete(collected))
    assert 1 <= len([line for line in caplog.messages if "a message cannot be parsed:" in line]) <= 2


async def connect_count(market: SimulatorServer) -> int:
    """Return how often Binance's socket was opened."""
    return int((await market.ledger())["requests"].get("binance connect", 0))


async def wait_for_connects(market: SimulatorServer, count: int) -> float:
    """Wait until Binance's socket was opened `count` times. Return the seconds that took."""

    async def reached() -> bool:
        return await connect_count(market) >= count

    return await eventually(reached)


async def test_collector_leaves_a_server_that_announces_its_shutdown(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance")) as collected:
        await eventually(lambda: is_live(collected, "binance", *PAIRS) and collected.trade_ids("BTC-USDT"))
        before = await connect_count(market)
        await market.fault("binance", "shutdown", after=2)
        seen = len(collected.statuses)
        await wait_for_connects(market, before + 1)
        trades = len(collected.trade_ids("BTC-USDT"))
        await eventually(lambda: len(collected.trade_ids("BTC-USDT")) > trades + 3)
        assert await connect_count(market) == before + 1
        assert is_complete(collected)
    assert all(state.connected and state.transport == "socket" for state in collected.statuses[seen:])
    assert collected.statuses[-1].reconnects == 0


async def test_connection_is_replaced_before_its_maximum_age(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance", max_connection_seconds=2.0)) as collected:
        before = await connect_count(market)
        assert await wait_for_connects(market, before + 2) > 0.5, "it reconnects without a pause"
        await eventually(lambda: len(collected.trade_ids("BTC-USDT")) > 12)
        assert is_complete(collected)
        assert collected.statuses[-1].reconnects == 0


@pytest.mark.parametrize("fault", ["reorder", "duplicate"])
async def test_reordered_or_duplicate_trades_are_published_once_in_order(market: SimulatorServer, fault: str) -> None:
    async with run_collector(market.exchange("binance")) as collected:
        await market.fault("binance", fault)
        await eventually(lambda: len(collected.trade_ids("BTC-USDT")) > 8)
        await market.clear_faults()
        count = len(collected.trade_ids("BTC-USDT"))
        await eventually(lambda: len(collected.trade_ids("BTC-USDT")) > count + 3)
        assert is_complete(collected)


@asynccontextmanager
async def scripted_host(*responses: str) -> AsyncIterator[tuple[str, list[float]]]:
    """Serve responses in turn, the last one for good. Yield `host:port` and the times of the requests."""
    requested = list[float]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        requested.append(asyncio.get_running_loop().time())
        head, _, body = responses[min(len(requested), len(responses)) - 1].partition("\n\n")
        head = head.replace("\n", "\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", requested


BLOCKED_RESPONSE = '451 \n\n{"code":0,"msg":"Service unavailable from a restricted location according to our terms."}'
RETRY_AFTER_SECONDS = 4
RATE_LIMITED_RESPONSE = (
    f"429 \nRetry-After: {RETRY_AFTER_SECONDS}\n\n"
    '{"status":{"error_code":429,"error_message":"You have exceeded the Rate Limit."}}'
)
PRICES_RESPONSE = '200 OK\n\n{"bitcoin":{"usd":76975.5,"last_updated_at":1779092258}}'


async def test_another_host_is_polled_while_every_socket_is_refused(market: SimulatorServer) -> None:
    exchange = market.exchange("binance")
    async with scripted_host(BLOCKED_RESPONSE) as (blocking_host, _):
        blocked = exchange._replace(
            rest_urls=(f"http://{blocking_host}", *exchange.rest_urls), ws_urls=(f"ws://{blocking_host}",)
        )
        async with run_collector(blocked) as collected:
            await eventually(lambda: is_live(collected, "binance", *PAIRS))
            await eventually(lambda: len(collected.trade_ids("BTC-USDT")) > 5)
            state = collected.last_status("binance")
            assert is_complete(collected)
    assert state
    assert (state.connected, state.transport) == (True, "polling")
    assert "451 Service unavailable from a restricted location" in state.reason
    for source in state.feeds:
        assert source.confirmed == source.received


async def test_retry_after_of_a_host_is_obeyed(market: SimulatorServer) -> None:
    async with scripted_host(PRICES_RESPONSE, PRICES_RESPONSE, RATE_LIMITED_RESPONSE, PRICES_RESPONSE) as (
        host,
        requested,
    ):
        there = market.exchange("coingecko", rest_urls=(f"http://{host}",), poll_seconds=0.1)
        async with run_collector(there) as collected:
            await eventually(
                lambda: "429 You have exceeded" in getattr(collected.last_status("coingecko"), "reason", "")
            )
            await eventually(
                lambda: getattr(collected.last_status("coingecko"), "connected", False) and len(requested) > 4
            )
    assert requested[3] - requested[2] >= RETRY_AFTER_SECONDS
    assert requested[4] - requested[3] < RETRY_AFTER_SECONDS
    assert is_live(collected, "coingecko", "BTC-USD")
    assert collected.feed_status("coingecko", "ETH-USD") is FeedStatus.ABSENT


async def test_ban_ends_all_requests_to_the_exchange_until_the_time_in_its_text(market: SimulatorServer) -> None:
    end, end_ms = asyncio.get_running_loop().time() + 5, round(time.time() * 1000) + 5000
    text = f"Way too much request weight used; IP banned until {end_ms}."
    async with scripted_host(f'418 \n\n{{"code":-1003,"msg":"{text}"}}') as (host, requested):
        there = market.exchange("binance", rest_urls=(f"http://{host}",) * 2, ws_urls=())
        async with run_collector(there, market.exchange("coingecko", poll_seconds=0.5)) as collected:
            reason = f"127.0.0.1 responded 418 {text}; next request at 20"
            await eventually(lambda: getattr(collected.last_status("binance"), "reason", "").startswith(reason))
            await eventually(lambda: is_live(collected, "coingecko", "BTC-USD"))
            await eventually(lambda: len(requested) > 1)
    assert requested[1] >= end - 0.1


def make_feed(exchange: Exchange) -> ExchangeFeed:
    return ExchangeFeed(exchange, settings=Settings(_env_file=None), bus=MemoryBus(), clock=SystemClock())


async def test_rate_limited_request_pauses_all_requests_to_the_exchange(market: SimulatorServer) -> None:
    async with (
        scripted_host(RATE_LIMITED_RESPONSE, PRICES_RESPONSE) as (host, requested),
        httpx.AsyncClient() as client,
    ):
        there = market.exchange("binance", rest_urls=(f"http://{host}", f"http://{host}"))
        feed = make_feed(there)
        rest = RestClient(feed, client)
        feed.on_first_price("a connection", "stream.test", feed.clock.monotonic())
        ask = RestCall("/api/v3/ping", lambda body, now: [])
        for _ in range(3):
            with pytest.raises(RestError) as refused:
                await rest.get(ask)
            assert 0 < refused.value.retry_after <= RETRY_AFTER_SECONDS
            assert refused.value.reason.startswith("127.0.0.1 responded 429; next request at 20")
            assert feed.status().reason == f"connected; requests paused: {refused.value.reason}"
        assert len(requested) == 1
        await eventually(lambda: asyncio.get_running_loop().time() > requested[0] + RETRY_AFTER_SECONDS + 0.1)
        await rest.get(ask)
        assert feed.status().reason == "connected"


async def test_retry_after_of_an_unavailable_host_does_not_pause_others(market: SimulatorServer) -> None:
    down = "503 Service Unavailable\nRetry-After: 3600\n\n"
    async with scripted_host(down, PRICES_RESPONSE) as (host, requested), httpx.AsyncClient() as client:
        there = market.exchange("binance", rest_urls=(f"http://{host}", f"http://{host}"))
        await RestClient(make_feed(there), client).get(RestCall("/api/v3/ping", lambda body, now: []))
    assert len(requested) == 2


async def test_instrument_that_does_not_trade_is_absent(market: SimulatorServer) -> None:
    await market.fault("binance", "unknown_enum")
    async with run_collector(market.exchange("binance")) as collected:
        await eventually(lambda: all(collected.feed_status("binance", pair) is FeedStatus.ABSENT for pair in PAIRS))
        await asyncio.sleep(1)
    assert not collected.all_quotes


async def test_instrument_with_an_unreadable_status_is_collected_like_the_others(market: SimulatorServer) -> None:
    there = market.exchange("binance")

    def listing(instrument: Instrument) -> RestCall:
        assert there.instrument_status
        ask = there.instrument_status(instrument)
        return ask._replace(parse=lambda body, now: 1 / 0) if instrument.base == "BTC" else ask  # type: ignore[arg-type, return-value]

    async with run_collector(there._replace(instrument_status=listing)) as collected:
        await eventually(lambda: all(collected.feed_status("binance", pair) is FeedStatus.LIVE for pair in PAIRS))


class BlockingBus(MemoryBus):
    """A bus that accepts only statuses while `blocked`."""

    blocked = False

    async def publish(self, *messages: Message) -> None:
        if self.blocked and not all(isinstance(message, ExchangeStatus) for message in messages):
            raise Unavailable("the bus does not answer")
        await super().publish(*messages)


async def test_trades_wait_for_the_bus_and_quotes_are_replaced(market: SimulatorServer) -> None:
    bus = BlockingBus()
    async with run_collector(market.exchange("binance"), bus=bus) as collected:
        await eventually(lambda: all(map(collected.trade_ids, PAIRS[:2])))
        bus.blocked = True
        await asyncio.sleep(3)
        seen = len(collected.all_quotes)
        bus.blocked = False
        await eventually(lambda: len(collected.trade_ids("BTC-USDT")) and len(collected.all_quotes) > seen + 10)
        assert is_complete(collected)
    late = collected.all_quotes[seen : seen + 20]
    assert len([tick for tick in late if str(tick.instrument) == "BTC-USDT"]) < 10


async def test_reading_waits_for_a_slow_bus_but_not_for_a_stalled_one(market: SimulatorServer) -> None:
    feed = make_feed(market.exchange("binance"))
    trade = Trade("binance", Instrument("BTC", "USDT"), 0, 0, Decimal(1), Decimal(1), 1)
    while not feed.queue.half_full:
        feed.queue.put(trade)
    await asyncio.wait_for(feed.queue.wait_for_capacity(), 5)  # no batch is published: it waits BUS_STALL_SECONDS
    await asyncio.wait_for(feed.queue.wait_for_capacity(), 0.1)  # the bus is stalled, so it does not wait
    feed.queue.on_published()
    waiting = asyncio.create_task(feed.queue.wait_for_capacity())
    for _ in range(10):  # for longer than BUS_STALL_SECONDS
        await asyncio.sleep(0.1)
        feed.queue.on_published()
    assert not waiting.done()
    feed.queue.take(500)
    await asyncio.wait_for(waiting, 5)


async def test_unreachable_reason_is_given_only_if_no_exchange_responds(market: SimulatorServer) -> None:
    reachable = [market.exchange("binance"), market.exchange("coingecko")]
    unreachable = [exchange._replace(rest_urls=("http://127.0.0.1:9",)) for exchange in reachable]
    assert await unreachable_reason(reachable, Settings(), 3) is None
    assert await unreachable_reason([unreachable[0], reachable[1]], Settings(), 3) is None
    why = await unreachable_reason(unreachable, Settings(), 1)
    assert why
    assert why.startswith("binance: ConnectError All connection attempts failed; coingecko: ConnectError")


class CancelFailingBus(MemoryBus):
    """A bus that raises RuntimeError when it is cancelled."""

    publishing = 0

    async def publish(self, *messages: Message) -> None:
        self.publishing += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("the connection is gone") from None


async def test_stopped_collector_ends_although_the_bus_fails(market: SimulatorServer) -> None:
    bus = CancelFailingBus()
    async with asyncio.timeout(60), run_collector(market.exchange("binance"), bus=bus):
        await eventually(lambda: bus.publishing > 1)


class ScriptedSocket:
    """A WebSocket server that sends a script and records what it receives."""

    def __init__(self, *script: str, replies: dict[str, str] | None = None) -> None:
        self.script, self.replies = script, replies or {}
        self.opened, self.received, self.headers = list[float](), list[str](), list[str | None]()

    async def __call__(self, socket: ServerConnection) -> None:
        self.opened.append(asyncio.get_running_loop().time())
        assert socket.request
        self.headers.append(socket.request.headers.get("x-cg-pro-api-key"))
        for frame in self.script:
            await socket.send(frame)
        async for message in socket:
            self.received.append(str(message))
            if reply := next((reply for word, reply in self.replies.items() if word in str(message)), None):
                await socket.send(reply)


@asynccontextmanager
async def run_scripted_socket(script: ScriptedSocket) -> AsyncIterator[str]:
    async with serve(script, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def test_collector_with_a_paid_key_receives_pushed_prices(market: SimulatorServer) -> None:
    script = ScriptedSocket(
        '{"type":"welcome"}',
        replies={
            '"subscribe"': '{"type":"confirm_subscription","identifier":"{\\"channel\\":\\"CGSimplePrice\\"}"}',
            "set_tokens": '{"c":"C1","i":"bitcoin","vs":"usd","p":97600.123456789,"t":1747808150.269067}',
        },
    )
    (paid,) = configured_exchanges(load(exchanges="coingecko", coingecko_plan="pro", coingecko_key="CG-secret"))
    async with (
        run_scripted_socket(script) as host,
        run_collector(paid._replace(ws_urls=(host,), rest_urls=("http://127.0.0.1:9",))) as collected,
    ):
        await eventually(lambda: is_live(collected, "coingecko", "BTC-USD"))
    assert script.headers == ["CG-secret"]
    assert {(str(tick.price), tick.time) for tick in collected.all_quotes} == {("97600.123456789", 1747808150269)}
    assert "CG-secret" not in repr(collected)


async def test_refused_subscription_is_retried_after_a_second_and_at_another_host(market: SimulatorServer) -> None:
    busy = ScriptedSocket('{"jsonrpc":"2.0","id":1,"error":{"code":10040,"message":"retry"}}')
    exchange = market.exchange("deribit")
    async with (
        run_scripted_socket(busy) as host,
        run_collector(exchange._replace(ws_urls=(host, host, *exchange.ws_urls))) as collected,
    ):
        await eventually(lambda: len(busy.opened) == 2)
        await eventually(lambda: is_live(collected, "deribit", "BTC-USD", "ETH-USD"))
    assert busy.opened[1] - busy.opened[0] >= 1
    assert any("retry (10040)" in state.reason for state in collected.statuses)


async def test_collector_answers_heartbeat_requests(market: SimulatorServer) -> None:
    heartbeat_socket = ScriptedSocket('{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}')
    async with (
        run_scripted_socket(heartbeat_socket) as host,
        run_collector(market.exchange("deribit", ws_urls=(host,))),
    ):
        await eventually(lambda: len(heartbeat_socket.received) == 4)
    methods = [msgspec.json.decode(frame)["method"] for frame in heartbeat_socket.received]
    assert methods == ["public/set_heartbeat", "public/subscribe", "public/status", "public/test"]
