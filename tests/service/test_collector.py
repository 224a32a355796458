"""The collector against played exchanges that behave, and that do not."""

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

from services.adapters.memory import MemoryBus
from services.collector.exchange_feed import ExchangeFeed
from services.collector.reachability import unreachable_reason
from services.collector.rest_client import RestClient, RestError
from services.core.errors import Unavailable
from services.core.exchange import RestCall
from services.core.model import ExchangeStatus, FeedStatus, Instrument, Message, Quote, Trade
from services.exchanges import configured_exchanges
from services.settings import Settings, load
from tests.simulator import CollectedMessages, SimulatorServer, collector_deps, is_gapless, run_collector, run_simulator
from tests.waiting import eventually

PAIRS = ("BTC-USDT", "ETH-USDT", "USDC-USDT")
FRESH_SECONDS = 5.5  # seconds after which the rhythm of an instrument is known


@pytest_asyncio.fixture(scope="module")
async def played() -> AsyncIterator[SimulatorServer]:
    async with run_simulator() as market:
        yield market


@pytest_asyncio.fixture
async def market(played: SimulatorServer) -> AsyncIterator[SimulatorServer]:
    yield played
    await played.clear_faults()


def is_complete(heard: CollectedMessages) -> bool:
    """No trade lost, none doubled, and nothing said to be missing."""
    return not heard.feed_gaps and all(is_gapless(heard.trade_ids(pair)) for pair in PAIRS)


def is_live(heard: CollectedMessages, exchange: str, *pairs: str) -> bool:
    return all(heard.feed_status(exchange, pair) is FeedStatus.LIVE for pair in pairs)


async def test_all_three_are_collected(market: SimulatorServer) -> None:
    exchanges = [market.exchange(name) for name in ("binance", "deribit", "coingecko")]
    async with run_collector(*exchanges) as heard:
        await eventually(lambda: is_live(heard, "binance", *PAIRS))
        await eventually(lambda: is_live(heard, "deribit", "BTC-USD", "ETH-USD", "USDC-USDT", "BTC-USD-PERPETUAL"))
        await eventually(lambda: is_live(heard, "coingecko", "BTC-USD", "BTC-RUB", "USDT-RUB", "USDC-USD"))
        await eventually(lambda: heard.trade_ids("BTC-USDT"))
    for state in (heard.last_status(exchange.name) for exchange in exchanges):
        assert state
        assert (state.connected, state.simulated, state.reconnects) == (True, True, 0)
        assert state.transport == ("polling" if state.exchange == "coingecko" else "socket")
        for source in state.feeds:
            assert source.received
            assert source.confirmed
            assert source.received <= source.confirmed <= state.time


async def test_published_messages_equal_the_sent_frames(market: SimulatorServer) -> None:
    before = (await market.ledger())["entries"]
    async with run_collector(market.exchange("binance", poll=None), conflate_ms=0) as heard:
        await eventually(lambda: len(heard.trade_ids("BTC-USDT")) > 10)
        quotes = {(str(tick.instrument), f"{tick.bid}/{tick.ask}") for tick in heard.quotes("binance")}
        sent = [entry for entry in (await market.ledger())["entries"] if entry not in before]
        told = {pair: [e for e in sent if (e["instrument"], e["kind"]) == (pair, "trade")] for pair in PAIRS}
        await eventually(lambda: all(int(t[-1]["id"]) in heard.trade_ids(pair) for pair, t in told.items() if t))
    for pair, trades in told.items():
        if not trades:
            continue
        first = int(trades[0]["id"])  # those before it, of the minute in which we began, were asked for
        mine = (trade for trade in heard.all_trades if str(trade.instrument) == pair and trade.trade_id >= first)
        ours = [(str(trade.trade_id), str(trade.price)) for trade in mine]
        assert ours[: len(trades)] == [(trade["id"], trade["price"]) for trade in trades]
    assert quotes
    assert quotes <= {(entry["instrument"], entry["price"]) for entry in sent if entry["kind"] == "quote"}


async def test_muted_instrument_is_silent_and_others_stay_live(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance")) as heard:
        await eventually(lambda: is_live(heard, "binance", *PAIRS))
        await asyncio.sleep(FRESH_SECONDS)
        await market.fault("binance", "mute", "BTC-USDT")
        assert 2 < await eventually(lambda: heard.feed_status("binance", "BTC-USDT") is FeedStatus.SILENT) < 10
        source = heard.instrument_feed("binance", "BTC-USDT")
        assert source
        assert source.confirmed == source.received
        assert is_live(heard, "binance", "ETH-USDT", "USDC-USDT")
        await market.clear_faults()
        await eventually(lambda: is_live(heard, "binance", "BTC-USDT"))
        await eventually(lambda: is_complete(heard))


async def test_unchanging_quote_is_published_at_the_start(market: SimulatorServer) -> None:
    await market.fault("binance", "mute", "USDC-USDT")
    async with run_collector(market.exchange("binance")) as heard:
        await eventually(lambda: any(str(tick.instrument) == "USDC-USDT" for tick in heard.quotes("binance")))
        await eventually(lambda: is_live(heard, "binance", *PAIRS))
        assert {state.transport for state in heard.statuses if state.connected} == {"socket"}


async def test_late_subscriber_soon_receives_an_unchanging_quote(market: SimulatorServer) -> None:
    bus, late = MemoryBus(), list[Message]()
    async with run_collector(market.exchange("coingecko", poll_seconds=3600.0), bus=bus) as heard:
        await eventually(lambda: heard.quotes("coingecko"))
        async with bus.subscribe(Quote) as messages, asyncio.timeout(30):
            late.append(await anext(messages))
    assert late[0] in heard.all_quotes[: len(heard.all_quotes) // 2]


async def test_all_muted_is_a_dead_connection(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance")) as heard:
        await eventually(lambda: is_live(heard, "binance", *PAIRS))
        await asyncio.sleep(FRESH_SECONDS)
        await market.fault("binance", "mute", rest=1)
        await eventually(lambda: "no message for" in getattr(heard.last_status("binance"), "reason", ""))
        await market.clear_faults()
        await eventually(lambda: is_live(heard, "binance", *PAIRS))
        await eventually(lambda: is_complete(heard))


async def test_killed_and_back_with_every_trade(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance")) as heard:
        await eventually(lambda: is_live(heard, "binance", *PAIRS) and all(map(heard.trade_ids, PAIRS)))
        await market.fault("binance", "kill")
        await eventually(lambda: getattr(heard.last_status("binance"), "connected", True) is False)
        stopped = heard.instrument_feed("binance", "BTC-USDT")
        await asyncio.sleep(3)
        assert stopped
        assert heard.instrument_feed("binance", "BTC-USDT").confirmed == stopped.confirmed  # type: ignore[union-attr]
        before = {pair: len(heard.trade_ids(pair)) for pair in PAIRS}
        await market.clear_faults()
        await eventually(lambda: getattr(heard.last_status("binance"), "transport", "") == "socket")
        await eventually(lambda: all(len(heard.trade_ids(pair)) > count for pair, count in before.items()))
        assert is_complete(heard)


async def test_trades_that_cannot_be_had_again_are_a_gap(
    market: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.collector.trade_gaps.ABANDON_AFTER_MS", 1_000)
    nothing = RestCall("/api/v3/nothing", lambda body, now: [])
    deaf = market.exchange("binance", poll=None, refetch_trades=lambda instrument, ids: nothing)
    async with run_collector(deaf) as heard:
        await eventually(lambda: heard.trade_ids("BTC-USDT"))
        await market.fault("binance", "kill", seconds=3)
        await eventually(lambda: any(str(gap.instrument) == "BTC-USDT" for gap in heard.feed_gaps))
        await eventually(lambda: not is_gapless(heard.trade_ids("BTC-USDT")))
    gap, numbers = (
        next(gap for gap in heard.feed_gaps if str(gap.instrument) == "BTC-USDT"),
        heard.trade_ids("BTC-USDT"),
    )
    before, after = next(pair for pair in pairwise(numbers) if pair[1] != pair[0] + 1)
    assert gap.reason == f"{after - before - 1} trades from {before + 1} are missing"
    assert gap.since < gap.until
    assert sorted(set(numbers)) == numbers


async def test_a_lost_connection_without_trades_is_a_gap(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("deribit")) as heard:
        await eventually(lambda: is_live(heard, "deribit", "BTC-USD"))
        await market.fault("deribit", "kill", seconds=1)
        await eventually(lambda: heard.feed_gaps)
        lost = next(state for state in heard.statuses if not state.connected and state.received)
    (gap,) = heard.feed_gaps
    assert (gap.exchange, gap.instrument, gap.since) == ("deribit", None, lost.received)
    assert 1_000 <= gap.until - gap.since < 15_000


async def test_garbage_is_counted_left_and_survived(market: SimulatorServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with run_collector(market.exchange("binance")) as heard:
        await eventually(lambda: is_live(heard, "binance", *PAIRS))
        await market.fault("binance", "garbage")
        await eventually(lambda: "cannot be parsed" in getattr(heard.last_status("binance"), "reason", ""))
        await market.clear_faults()
        await eventually(lambda: is_live(heard, "binance", *PAIRS))
        await eventually(lambda: is_complete(heard))
    assert 1 <= len([line for line in caplog.messages if "a message cannot be parsed:" in line]) <= 2


async def test_collector_leaves_a_server_that_announces_its_shutdown(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance")) as heard:
        await eventually(lambda: is_live(heard, "binance", *PAIRS) and heard.trade_ids("BTC-USDT"))
        connects = (await market.ledger())["requests"].get("binance connect", 0)
        await market.fault("binance", "shutdown", after=2)
        seen = len(heard.statuses)
        await asyncio.sleep(3)
        trades = len(heard.trade_ids("BTC-USDT"))
        await eventually(lambda: len(heard.trade_ids("BTC-USDT")) > trades + 3)
        assert (await market.ledger())["requests"].get("binance connect", 0) == connects + 1
        assert is_complete(heard)
    assert all(state.connected and state.transport == "socket" for state in heard.statuses[seen:])
    assert heard.statuses[-1].reconnects == 0


async def test_a_connection_is_renewed_before_its_time_is_over(market: SimulatorServer) -> None:
    async with run_collector(market.exchange("binance", max_connection_seconds=2.0)) as heard:
        connects = (await market.ledger())["requests"].get("binance connect", 0)
        async with asyncio.timeout(60):
            while (renewed := (await market.ledger())["requests"].get("binance connect", 0) - connects) < 2:
                await asyncio.sleep(0.1)
        assert renewed <= 3
        await eventually(lambda: len(heard.trade_ids("BTC-USDT")) > 12)
        assert is_complete(heard)
        assert heard.statuses[-1].reconnects == 0


@pytest.mark.parametrize("fault", ["reorder", "duplicate"])
async def test_trades_come_once_and_in_order_whatever_the_wire_does(market: SimulatorServer, fault: str) -> None:
    async with run_collector(market.exchange("binance")) as heard:
        await market.fault("binance", fault)
        await eventually(lambda: len(heard.trade_ids("BTC-USDT")) > 8)
        await market.clear_faults()
        count = len(heard.trade_ids("BTC-USDT"))
        await eventually(lambda: len(heard.trade_ids("BTC-USDT")) > count + 3)
        assert is_complete(heard)


@asynccontextmanager
async def scripted_host(*answers: str) -> AsyncIterator[tuple[str, list[float]]]:
    """A host that gives these answers in turn, the last for ever; yields `host:port` and when it was asked."""
    asked = list[float]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(asyncio.get_running_loop().time())
        head, _, body = answers[min(len(asked), len(answers)) - 1].partition("\n\n")
        head = head.replace("\n", "\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


BLOCKED_RESPONSE = '451 \n\n{"code":0,"msg":"Service unavailable from a restricted location according to our terms."}'
RATE_LIMITED_RESPONSE = (
    '429 \nRetry-After: 2\n\n{"status":{"error_code":429,"error_message":"You have exceeded the Rate Limit."}}'
)
PRICES_RESPONSE = '200 OK\n\n{"bitcoin":{"usd":76975.5,"last_updated_at":1779092258}}'


async def test_where_no_socket_can_be_had_another_host_is_polled(market: SimulatorServer) -> None:
    here = market.exchange("binance")
    async with scripted_host(BLOCKED_RESPONSE) as (wall, _):
        walled = here._replace(rest_urls=(f"http://{wall}", *here.rest_urls), ws_urls=(f"ws://{wall}",))
        async with run_collector(walled) as heard:
            await eventually(lambda: is_live(heard, "binance", *PAIRS))
            await eventually(lambda: len(heard.trade_ids("BTC-USDT")) > 5)
            state = heard.last_status("binance")
            assert is_complete(heard)
    assert state
    assert (state.connected, state.transport) == (True, "polling")
    assert "451 Service unavailable from a restricted location" in state.reason
    for source in state.feeds:
        assert source.confirmed == source.received


async def test_retry_after_of_a_host_is_obeyed(market: SimulatorServer) -> None:
    async with scripted_host(PRICES_RESPONSE, PRICES_RESPONSE, RATE_LIMITED_RESPONSE, PRICES_RESPONSE) as (host, asked):
        there = market.exchange("coingecko", rest_urls=(f"http://{host}",), poll_seconds=0.1)
        async with run_collector(there) as heard:
            await eventually(lambda: "429 You have exceeded" in getattr(heard.last_status("coingecko"), "reason", ""))
            await eventually(lambda: getattr(heard.last_status("coingecko"), "connected", False) and len(asked) > 4)
    assert asked[3] - asked[2] >= 2
    assert asked[4] - asked[3] < 2
    assert is_live(heard, "coingecko", "BTC-USD")
    assert heard.feed_status("coingecko", "ETH-USD") is FeedStatus.ABSENT


async def test_a_ban_whose_end_only_its_text_tells_is_obeyed_by_all_who_ask(market: SimulatorServer) -> None:
    end, end_ms = asyncio.get_running_loop().time() + 5, round(time.time() * 1000) + 5000
    text = f"Way too much request weight used; IP banned until {end_ms}."
    async with scripted_host(f'418 \n\n{{"code":-1003,"msg":"{text}"}}') as (host, asked):
        there = market.exchange("binance", rest_urls=(f"http://{host}",) * 2, ws_urls=())
        async with run_collector(there, market.exchange("coingecko", poll_seconds=0.5)) as heard:
            told = f"127.0.0.1 responded 418 {text}; next request at 20"
            await eventually(lambda: getattr(heard.last_status("binance"), "reason", "").startswith(told))
            await eventually(lambda: is_live(heard, "coingecko", "BTC-USD"))
            await eventually(lambda: len(asked) > 1)
    assert asked[1] >= end - 0.1


async def test_rate_limited_request_pauses_all_requests_to_the_exchange(market: SimulatorServer) -> None:
    async with scripted_host(RATE_LIMITED_RESPONSE, PRICES_RESPONSE) as (host, asked), httpx.AsyncClient() as client:
        there = market.exchange("binance", rest_urls=(f"http://{host}", f"http://{host}"))
        feed = ExchangeFeed(there, collector_deps())
        rest = RestClient(feed, client)
        feed.on_first_price("a connection", "stream.test", feed.clock.monotonic())
        ask = RestCall("/api/v3/ping", lambda body, now: [])
        for _ in range(3):
            with pytest.raises(RestError) as refused:
                await rest.get(ask)
            assert 0 < refused.value.retry_after <= 2
            assert refused.value.reason.startswith("127.0.0.1 responded 429; next request at 20")
            assert feed.status().reason == f"connected; requests paused: {refused.value.reason}"
        assert len(asked) == 1
        await eventually(lambda: asyncio.get_running_loop().time() > asked[0] + 2.1)
        await rest.get(ask)
        assert feed.status().reason == "connected"


async def test_a_host_in_trouble_does_not_speak_for_the_others(market: SimulatorServer) -> None:
    down = "503 Service Unavailable\nRetry-After: 3600\n\n"
    async with scripted_host(down, PRICES_RESPONSE) as (host, asked), httpx.AsyncClient() as client:
        there = market.exchange("binance", rest_urls=(f"http://{host}", f"http://{host}"))
        await RestClient(ExchangeFeed(there, collector_deps()), client).get(
            RestCall("/api/v3/ping", lambda body, now: [])
        )
    assert len(asked) == 2


async def test_instrument_that_does_not_trade_is_absent(market: SimulatorServer) -> None:
    await market.fault("binance", "unknown_enum")
    async with run_collector(market.exchange("binance")) as heard:
        await eventually(lambda: all(heard.feed_status("binance", pair) is FeedStatus.ABSENT for pair in PAIRS))
        await asyncio.sleep(1)
    assert not heard.all_quotes


async def test_a_listing_that_cannot_be_read_costs_its_symbol_alone(market: SimulatorServer) -> None:
    """It is collected as if nothing were known of it, and the others do not wait."""
    there = market.exchange("binance")

    def listing(instrument: Instrument) -> RestCall:
        assert there.instrument_status
        ask = there.instrument_status(instrument)
        return ask._replace(parse=lambda body, now: 1 / 0) if instrument.base == "BTC" else ask  # type: ignore[arg-type, return-value]

    async with run_collector(there._replace(instrument_status=listing)) as heard:
        await eventually(lambda: all(heard.feed_status("binance", pair) is FeedStatus.LIVE for pair in PAIRS))


class BlockingBus(MemoryBus):
    """A bus that does not take ticks while told so."""

    blocked = False

    async def publish(self, *messages: Message) -> None:
        if self.blocked and not all(isinstance(message, ExchangeStatus) for message in messages):
            raise Unavailable("the bus does not answer")
        await super().publish(*messages)


async def test_trades_wait_for_the_bus_and_quotes_are_replaced(market: SimulatorServer) -> None:
    bus = BlockingBus()
    async with run_collector(market.exchange("binance"), bus=bus) as heard:
        await eventually(lambda: all(map(heard.trade_ids, PAIRS[:2])))
        bus.blocked = True
        await asyncio.sleep(3)
        seen = len(heard.all_quotes)
        bus.blocked = False
        await eventually(lambda: len(heard.trade_ids("BTC-USDT")) and len(heard.all_quotes) > seen + 10)
        assert is_complete(heard)
    late = heard.all_quotes[seen : seen + 20]
    assert len([tick for tick in late if str(tick.instrument) == "BTC-USDT"]) < 10


async def test_reading_waits_for_a_bus_that_takes_something_and_for_no_other(market: SimulatorServer) -> None:
    feed = ExchangeFeed(market.exchange("binance"), collector_deps())
    trade = Trade("binance", Instrument("BTC", "USDT"), 0, 0, Decimal(1), Decimal(1), 1)
    while not feed.queue.half_full:
        feed.queue.put(trade)
    await asyncio.wait_for(feed.queue.wait_for_capacity(), 5)  # nothing is taken
    await asyncio.wait_for(feed.queue.wait_for_capacity(), 0.1)  # which is known by now
    feed.queue.on_published()
    waiting = asyncio.create_task(feed.queue.wait_for_capacity())
    for _ in range(10):  # longer than a bus is waited for that takes nothing
        await asyncio.sleep(0.1)
        feed.queue.on_published()
    assert not waiting.done()
    feed.queue.take(500)
    await asyncio.wait_for(waiting, 5)


async def test_reach(market: SimulatorServer) -> None:
    here = [market.exchange("binance"), market.exchange("coingecko")]
    nowhere = [exchange._replace(rest_urls=("http://127.0.0.1:9",)) for exchange in here]
    assert await unreachable_reason(here, Settings(), 3) is None
    assert await unreachable_reason([nowhere[0], here[1]], Settings(), 3) is None
    why = await unreachable_reason(nowhere, Settings(), 1)
    assert why
    assert why.startswith("binance: ConnectError All connection attempts failed; coingecko: ConnectError")


class CancelFailingBus(MemoryBus):
    """A bus whose driver fails where it is cancelled."""

    publishing = 0

    async def publish(self, *messages: Message) -> None:
        self.publishing += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("the connection is gone") from None


async def test_a_collector_that_is_stopped_ends_whatever_fails_meanwhile(market: SimulatorServer) -> None:
    bus = CancelFailingBus()
    async with asyncio.timeout(20), run_collector(market.exchange("binance"), bus=bus):
        await eventually(lambda: bus.publishing > 1)


class ScriptedSocket:
    """A socket host that says what a script says, and keeps what it hears."""

    def __init__(self, *script: str, replies: dict[str, str] | None = None) -> None:
        self.script, self.replies = script, replies or {}
        self.opened, self.heard, self.headers = list[float](), list[str](), list[str | None]()

    async def __call__(self, socket: ServerConnection) -> None:
        self.opened.append(asyncio.get_running_loop().time())
        assert socket.request
        self.headers.append(socket.request.headers.get("x-cg-pro-api-key"))
        for frame in self.script:
            await socket.send(frame)
        async for heard in socket:
            self.heard.append(str(heard))
            if reply := next((reply for word, reply in self.replies.items() if word in str(heard)), None):
                await socket.send(reply)


@asynccontextmanager
async def run_scripted_socket(script: ScriptedSocket) -> AsyncIterator[str]:
    async with serve(script, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def test_a_paid_key_gets_prices_pushed(market: SimulatorServer) -> None:
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
        run_collector(paid._replace(ws_urls=(host,), rest_urls=("http://127.0.0.1:9",))) as heard,
    ):
        await eventually(lambda: is_live(heard, "coingecko", "BTC-USD"))
    assert script.headers == ["CG-secret"]
    assert {(str(tick.price), tick.time) for tick in heard.all_quotes} == {("97600.123456789", 1747808150269)}
    assert "CG-secret" not in repr(heard)


async def test_refused_socket_is_retried_when_told_and_at_another_host(market: SimulatorServer) -> None:
    busy = ScriptedSocket('{"jsonrpc":"2.0","id":1,"error":{"code":10040,"message":"retry"}}')
    here = market.exchange("deribit")
    async with (
        run_scripted_socket(busy) as host,
        run_collector(here._replace(ws_urls=(host, host, *here.ws_urls))) as heard,
    ):
        await eventually(lambda: len(busy.opened) == 2)
        await eventually(lambda: is_live(heard, "deribit", "BTC-USD", "ETH-USD"))
    assert busy.opened[1] - busy.opened[0] >= 1
    assert any("retry (10040)" in state.reason for state in heard.statuses)


async def test_the_heartbeat_is_answered(market: SimulatorServer) -> None:
    pulse = ScriptedSocket('{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}')
    async with run_scripted_socket(pulse) as host, run_collector(market.exchange("deribit", ws_urls=(host,))):
        await eventually(lambda: len(pulse.heard) == 4)
    asked = [msgspec.json.decode(frame)["method"] for frame in pulse.heard]
    assert asked == ["public/set_heartbeat", "public/subscribe", "public/status", "public/test"]
