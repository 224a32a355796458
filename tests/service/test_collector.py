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
from services.collector.exchange_feed import Line
from services.collector.reachability import unreachable
from services.collector.rest_client import NoAnswer, Rest
from services.core.errors import Unavailable
from services.core.exchange import Ask
from services.core.model import Feed, Instrument, Message, State, Tick, Trade
from services.exchanges import chosen
from services.settings import Settings, load
from tests.simulator import Collected, Market, collecting, deps_for, gapless, playing, until

PAIRS = ("BTC-USDT", "ETH-USDT", "USDC-USDT")
KNOWN = 5.5  # seconds after which the rhythm of an instrument is known


@pytest_asyncio.fixture(scope="module")
async def played() -> AsyncIterator[Market]:
    async with playing() as market:
        yield market


@pytest_asyncio.fixture
async def market(played: Market) -> AsyncIterator[Market]:
    yield played
    await played.heal()


def complete(heard: Collected) -> bool:
    """No trade lost, none doubled, and nothing said to be missing."""
    return not heard.gaps and all(gapless(heard.trades(pair)) for pair in PAIRS)


def live(heard: Collected, exchange: str, *pairs: str) -> bool:
    return all(heard.feed(exchange, pair) is Feed.LIVE for pair in pairs)


async def test_all_three_are_collected(market: Market) -> None:
    exchanges = [market.exchange(name) for name in ("binance", "deribit", "coingecko")]
    async with collecting(*exchanges) as heard:
        await until(lambda: live(heard, "binance", *PAIRS))
        await until(lambda: live(heard, "deribit", "BTC-USD", "ETH-USD", "USDC-USDT", "BTC-USD-PERPETUAL"))
        await until(lambda: live(heard, "coingecko", "BTC-USD", "BTC-RUB", "USDT-RUB", "USDC-USD"))
        await until(lambda: heard.trades("BTC-USDT"))
    for state in (heard.state(exchange.name) for exchange in exchanges):
        assert state
        assert (state.connected, state.simulated, state.reconnects) == (True, True, 0)
        assert state.transport == ("polling" if state.exchange == "coingecko" else "socket")
        for source in state.sources:
            assert source.received
            assert source.confirmed
            assert source.received <= source.confirmed <= state.time


async def test_what_was_sent_is_what_was_heard(market: Market) -> None:
    before = (await market.ledger())["entries"]
    async with collecting(market.exchange("binance", poll=None), conflate_ms=0) as heard:
        await until(lambda: len(heard.trades("BTC-USDT")) > 10)
        quotes = {(str(tick.instrument), f"{tick.bid}/{tick.ask}") for tick in heard.quotes("binance")}
        sent = [entry for entry in (await market.ledger())["entries"] if entry not in before]
        told = {pair: [e for e in sent if (e["instrument"], e["kind"]) == (pair, "trade")] for pair in PAIRS}
        await until(lambda: all(int(t[-1]["id"]) in heard.trades(pair) for pair, t in told.items() if t))
    for pair, trades in told.items():
        if not trades:
            continue
        first = int(trades[0]["id"])  # those before it, of the minute in which we began, were asked for
        mine = (trade for trade in heard.traded if str(trade.instrument) == pair and trade.number >= first)
        ours = [(str(trade.number), str(trade.price)) for trade in mine]
        assert ours[: len(trades)] == [(trade["id"], trade["price"]) for trade in trades]
    assert quotes
    assert quotes <= {(entry["instrument"], entry["price"]) for entry in sent if entry["kind"] == "quote"}


async def test_one_muted_instrument_is_noticed_and_the_others_stay(market: Market) -> None:
    async with collecting(market.exchange("binance")) as heard:
        await until(lambda: live(heard, "binance", *PAIRS))
        await asyncio.sleep(KNOWN)
        await market.fault("binance", "mute", "BTC-USDT")
        assert 2 < await until(lambda: heard.feed("binance", "BTC-USDT") is Feed.SILENT) < 10
        source = heard.source("binance", "BTC-USDT")
        assert source
        assert source.confirmed == source.received
        assert live(heard, "binance", "ETH-USDT", "USDC-USDT")
        await market.heal()
        await until(lambda: live(heard, "binance", "BTC-USDT"))
        await until(lambda: complete(heard))


async def test_what_does_not_change_is_known_from_the_start(market: Market) -> None:
    await market.fault("binance", "mute", "USDC-USDT")
    async with collecting(market.exchange("binance")) as heard:
        await until(lambda: any(str(tick.instrument) == "USDC-USDT" for tick in heard.quotes("binance")))
        await until(lambda: live(heard, "binance", *PAIRS))
        assert {state.transport for state in heard.states if state.connected} == {"socket"}


async def test_who_listens_later_knows_soon_what_does_not_change(market: Market) -> None:
    bus, late = MemoryBus(), list[Message]()
    async with collecting(market.exchange("coingecko", poll_seconds=3600.0), bus=bus) as heard:
        await until(lambda: heard.quotes("coingecko"))
        async with bus.live(Tick) as messages, asyncio.timeout(30):
            late.append(await anext(messages))
    assert late[0] in heard.ticks[: len(heard.ticks) // 2]


async def test_all_muted_is_a_dead_connection(market: Market) -> None:
    async with collecting(market.exchange("binance")) as heard:
        await until(lambda: live(heard, "binance", *PAIRS))
        await asyncio.sleep(KNOWN)
        await market.fault("binance", "mute", rest=1)
        await until(lambda: "nothing came" in getattr(heard.state("binance"), "reason", ""))
        await market.heal()
        await until(lambda: live(heard, "binance", *PAIRS))
        await until(lambda: complete(heard))


async def test_killed_and_back_with_every_trade(market: Market) -> None:
    async with collecting(market.exchange("binance")) as heard:
        await until(lambda: live(heard, "binance", *PAIRS) and all(map(heard.trades, PAIRS)))
        await market.fault("binance", "kill")
        await until(lambda: getattr(heard.state("binance"), "connected", True) is False)
        stopped = heard.source("binance", "BTC-USDT")
        await asyncio.sleep(3)
        assert stopped
        assert heard.source("binance", "BTC-USDT").confirmed == stopped.confirmed  # type: ignore[union-attr]
        before = {pair: len(heard.trades(pair)) for pair in PAIRS}
        await market.heal()
        await until(lambda: getattr(heard.state("binance"), "transport", "") == "socket")
        await until(lambda: all(len(heard.trades(pair)) > count for pair, count in before.items()))
        assert complete(heard)


async def test_trades_that_cannot_be_had_again_are_a_gap(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.collector.trade_gaps.PATIENCE", 1_000)
    deaf = market.exchange(
        "binance", poll=None, missed=lambda instrument, numbers: Ask("/api/v3/nothing", lambda body, now: [])
    )
    async with collecting(deaf) as heard:
        await until(lambda: heard.trades("BTC-USDT"))
        await market.fault("binance", "kill", seconds=3)
        await until(lambda: any(str(gap.instrument) == "BTC-USDT" for gap in heard.gaps))
        await until(lambda: not gapless(heard.trades("BTC-USDT")))
    gap, numbers = next(gap for gap in heard.gaps if str(gap.instrument) == "BTC-USDT"), heard.trades("BTC-USDT")
    before, after = next(pair for pair in pairwise(numbers) if pair[1] != pair[0] + 1)
    assert gap.reason == f"{after - before - 1} trades from {before + 1} are missing"
    assert gap.since < gap.until
    assert sorted(set(numbers)) == numbers


async def test_a_lost_connection_without_trades_is_a_gap(market: Market) -> None:
    async with collecting(market.exchange("deribit")) as heard:
        await until(lambda: live(heard, "deribit", "BTC-USD"))
        await market.fault("deribit", "kill", seconds=1)
        await until(lambda: heard.gaps)
        lost = next(state for state in heard.states if not state.connected and state.received)
    (gap,) = heard.gaps
    assert (gap.exchange, gap.instrument, gap.since) == ("deribit", None, lost.received)
    assert 1_000 <= gap.until - gap.since < 15_000


async def test_garbage_is_counted_left_and_survived(market: Market, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with collecting(market.exchange("binance")) as heard:
        await until(lambda: live(heard, "binance", *PAIRS))
        await market.fault("binance", "garbage")
        await until(lambda: "understood" in getattr(heard.state("binance"), "reason", ""))
        await market.heal()
        await until(lambda: live(heard, "binance", *PAIRS))
        await until(lambda: complete(heard))
    assert len([line for line in caplog.messages if "cannot be understood:" in line]) == 1


async def test_a_server_that_shuts_down_is_left_for_another_before_it_is_gone(market: Market) -> None:
    async with collecting(market.exchange("binance")) as heard:
        await until(lambda: live(heard, "binance", *PAIRS) and heard.trades("BTC-USDT"))
        connects = (await market.ledger())["requests"].get("binance connect", 0)
        await market.fault("binance", "shutdown", after=2)
        seen = len(heard.states)
        await asyncio.sleep(3)
        trades = len(heard.trades("BTC-USDT"))
        await until(lambda: len(heard.trades("BTC-USDT")) > trades + 3)
        assert (await market.ledger())["requests"].get("binance connect", 0) == connects + 1
        assert complete(heard)
    assert all(state.connected and state.transport == "socket" for state in heard.states[seen:])
    assert heard.states[-1].reconnects == 0


async def test_a_connection_is_renewed_before_its_time_is_over(market: Market) -> None:
    async with collecting(market.exchange("binance", lifetime=2.0)) as heard:
        connects = (await market.ledger())["requests"].get("binance connect", 0)
        async with asyncio.timeout(60):
            while (renewed := (await market.ledger())["requests"].get("binance connect", 0) - connects) < 2:
                await asyncio.sleep(0.1)
        assert renewed <= 3
        await until(lambda: len(heard.trades("BTC-USDT")) > 12)
        assert complete(heard)
        assert heard.states[-1].reconnects == 0


@pytest.mark.parametrize("fault", ["reorder", "duplicate"])
async def test_trades_come_once_and_in_order_whatever_the_wire_does(market: Market, fault: str) -> None:
    async with collecting(market.exchange("binance")) as heard:
        await market.fault("binance", fault)
        await until(lambda: len(heard.trades("BTC-USDT")) > 8)
        await market.heal()
        count = len(heard.trades("BTC-USDT"))
        await until(lambda: len(heard.trades("BTC-USDT")) > count + 3)
        assert complete(heard)


@asynccontextmanager
async def answering(*answers: str) -> AsyncIterator[tuple[str, list[float]]]:
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


BLOCKED = '451 \n\n{"code":0,"msg":"Service unavailable from a restricted location according to our terms."}'
TOO_OFTEN = '429 \nRetry-After: 2\n\n{"status":{"error_code":429,"error_message":"You have exceeded the Rate Limit."}}'
PRICES = '200 OK\n\n{"bitcoin":{"usd":76975.5,"last_updated_at":1779092258}}'


async def test_where_no_socket_can_be_had_another_host_is_polled(market: Market) -> None:
    here = market.exchange("binance")
    async with answering(BLOCKED) as (wall, _):
        walled = here._replace(rests=(f"http://{wall}", *here.rests), sockets=(f"ws://{wall}",))
        async with collecting(walled) as heard:
            await until(lambda: live(heard, "binance", *PAIRS))
            await until(lambda: len(heard.trades("BTC-USDT")) > 5)
            state = heard.state("binance")
            assert complete(heard)
    assert state
    assert (state.connected, state.transport) == (True, "polling")
    assert "451 Service unavailable from a restricted location" in state.reason
    for source in state.sources:
        assert source.confirmed == source.received


async def test_who_asks_to_be_left_alone_is_left_alone(market: Market) -> None:
    async with answering(PRICES, PRICES, TOO_OFTEN, PRICES) as (host, asked):
        there = market.exchange("coingecko", rests=(f"http://{host}",), poll_seconds=0.1)
        async with collecting(there) as heard:
            await until(lambda: "429 You have exceeded" in getattr(heard.state("coingecko"), "reason", ""))
            await until(lambda: getattr(heard.state("coingecko"), "connected", False) and len(asked) > 4)
    assert asked[3] - asked[2] >= 2
    assert asked[4] - asked[3] < 2
    assert live(heard, "coingecko", "BTC-USD")
    assert heard.feed("coingecko", "ETH-USD") is Feed.ABSENT


async def test_a_ban_whose_end_only_its_text_tells_is_obeyed_by_all_who_ask(market: Market) -> None:
    end, end_ms = asyncio.get_running_loop().time() + 5, round(time.time() * 1000) + 5000
    text = f"Way too much request weight used; IP banned until {end_ms}."
    async with answering(f'418 \n\n{{"code":-1003,"msg":"{text}"}}') as (host, asked):
        there = market.exchange("binance", rests=(f"http://{host}",) * 2, sockets=())
        async with collecting(there, market.exchange("coingecko", poll_seconds=0.5)) as heard:
            told = f"127.0.0.1 answers 418 {text}; it is asked again at 20"
            await until(lambda: getattr(heard.state("binance"), "reason", "").startswith(told))
            await until(lambda: live(heard, "coingecko", "BTC-USD"))
            await until(lambda: len(asked) > 1)
    assert asked[1] >= end - 0.1


async def test_one_who_is_told_to_wait_speaks_for_all_who_ask(market: Market) -> None:
    async with answering(TOO_OFTEN, PRICES) as (host, asked), httpx.AsyncClient() as client:
        there = market.exchange("binance", rests=(f"http://{host}", f"http://{host}"))
        line = Line(there, deps_for())
        rest = Rest(line, client)
        line.opened("a connection", "stream.test", line.clock.monotonic())
        ask = Ask("/api/v3/ping", lambda body, now: [])
        for _ in range(3):
            with pytest.raises(NoAnswer) as refused:
                await rest.get(ask)
            assert 0 < refused.value.wait <= 2
            assert refused.value.reason.startswith("127.0.0.1 answers 429; it is asked again at 20")
            assert line.state().reason == f"connected; requests wait: {refused.value.reason}"
        assert len(asked) == 1
        await until(lambda: asyncio.get_running_loop().time() > asked[0] + 2.1)
        await rest.get(ask)
        assert line.state().reason == "connected"


async def test_a_host_in_trouble_does_not_speak_for_the_others(market: Market) -> None:
    down = "503 Service Unavailable\nRetry-After: 3600\n\n"
    async with answering(down, PRICES) as (host, asked), httpx.AsyncClient() as client:
        there = market.exchange("binance", rests=(f"http://{host}", f"http://{host}"))
        await Rest(Line(there, deps_for()), client).get(Ask("/api/v3/ping", lambda body, now: []))
    assert len(asked) == 2


async def test_what_does_not_trade_is_absent(market: Market) -> None:
    await market.fault("binance", "unknown_enum")
    async with collecting(market.exchange("binance")) as heard:
        await until(lambda: all(heard.feed("binance", pair) is Feed.ABSENT for pair in PAIRS))
        await asyncio.sleep(1)
    assert not heard.ticks


async def test_a_listing_that_cannot_be_read_costs_its_symbol_alone(market: Market) -> None:
    """It is collected as if nothing were known of it, and the others do not wait."""
    there = market.exchange("binance")

    def listing(instrument: Instrument) -> Ask:
        assert there.listing
        ask = there.listing(instrument)
        return ask._replace(read=lambda body, now: 1 / 0) if instrument.base == "BTC" else ask  # type: ignore[arg-type, return-value]

    async with collecting(there._replace(listing=listing)) as heard:
        await until(lambda: all(heard.feed("binance", pair) is Feed.LIVE for pair in PAIRS))


class Balking(MemoryBus):
    """A bus that does not take ticks while told so."""

    balks = False

    async def publish(self, *messages: Message) -> None:
        if self.balks and not all(isinstance(message, State) for message in messages):
            raise Unavailable("the bus does not answer")
        await super().publish(*messages)


async def test_trades_wait_for_the_bus_and_quotes_are_replaced(market: Market) -> None:
    bus = Balking()
    async with collecting(market.exchange("binance"), bus=bus) as heard:
        await until(lambda: all(map(heard.trades, PAIRS[:2])))
        bus.balks = True
        await asyncio.sleep(3)
        seen = len(heard.ticks)
        bus.balks = False
        await until(lambda: len(heard.trades("BTC-USDT")) and len(heard.ticks) > seen + 10)
        assert complete(heard)
    late = heard.ticks[seen : seen + 20]
    assert len([tick for tick in late if str(tick.instrument) == "BTC-USDT"]) < 10


async def test_reading_waits_for_a_bus_that_takes_something_and_for_no_other(market: Market) -> None:
    line = Line(market.exchange("binance"), deps_for())
    trade = Trade("binance", Instrument("BTC", "USDT"), 0, 0, Decimal(1), Decimal(1), 1)
    while not line.outbox.crowded:
        line.put(trade)
    await asyncio.wait_for(line.room(), 5)  # nothing is taken
    await asyncio.wait_for(line.room(), 0.1)  # which is known by now
    line.took()
    waiting = asyncio.create_task(line.room())
    for _ in range(10):  # longer than a bus is waited for that takes nothing
        await asyncio.sleep(0.1)
        line.took()
    assert not waiting.done()
    line.outbox.take(0)
    await asyncio.wait_for(waiting, 5)


async def test_reach(market: Market) -> None:
    here = [market.exchange("binance"), market.exchange("coingecko")]
    nowhere = [exchange._replace(rests=("http://127.0.0.1:9",)) for exchange in here]
    assert await unreachable(here, Settings(), 3) is None
    assert await unreachable([nowhere[0], here[1]], Settings(), 3) is None
    why = await unreachable(nowhere, Settings(), 1)
    assert why
    assert why.startswith("binance: ConnectError All connection attempts failed; coingecko: ConnectError")


class Failing(MemoryBus):
    """A bus whose driver fails where it is cancelled."""

    publishing = 0

    async def publish(self, *messages: Message) -> None:
        self.publishing += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("the connection is gone") from None


async def test_a_collector_that_is_stopped_ends_whatever_fails_meanwhile(market: Market) -> None:
    bus = Failing()
    async with asyncio.timeout(20), collecting(market.exchange("binance"), bus=bus):
        await until(lambda: bus.publishing > 1)


class Scripted:
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
async def speaking(script: Scripted) -> AsyncIterator[str]:
    async with serve(script, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def test_a_paid_key_gets_prices_pushed(market: Market) -> None:
    script = Scripted(
        '{"type":"welcome"}',
        replies={
            '"subscribe"': '{"type":"confirm_subscription","identifier":"{\\"channel\\":\\"CGSimplePrice\\"}"}',
            "set_tokens": '{"c":"C1","i":"bitcoin","vs":"usd","p":97600.123456789,"t":1747808150.269067}',
        },
    )
    (paid,) = chosen(load(exchanges="coingecko", coingecko_plan="pro", coingecko_key="CG-secret"))
    async with (
        speaking(script) as host,
        collecting(paid._replace(sockets=(host,), rests=("http://127.0.0.1:9",))) as heard,
    ):
        await until(lambda: live(heard, "coingecko", "BTC-USD"))
    assert script.headers == ["CG-secret"]
    assert {(str(tick.price), tick.time) for tick in heard.ticks} == {("97600.123456789", 1747808150269)}
    assert "CG-secret" not in repr(heard)


async def test_who_refuses_is_asked_again_when_it_said_and_at_another_host(market: Market) -> None:
    busy = Scripted('{"jsonrpc":"2.0","id":1,"error":{"code":10040,"message":"retry"}}')
    here = market.exchange("deribit")
    async with speaking(busy) as host, collecting(here._replace(sockets=(host, host, *here.sockets))) as heard:
        await until(lambda: len(busy.opened) == 2)
        await until(lambda: live(heard, "deribit", "BTC-USD", "ETH-USD"))
    assert busy.opened[1] - busy.opened[0] >= 1
    assert any("retry (10040)" in state.reason for state in heard.states)


async def test_the_heartbeat_is_answered(market: Market) -> None:
    pulse = Scripted('{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}')
    async with speaking(pulse) as host, collecting(market.exchange("deribit", sockets=(host,))):
        await until(lambda: len(pulse.heard) == 4)
    asked = [msgspec.json.decode(frame)["method"] for frame in pulse.heard]
    assert asked == ["public/set_heartbeat", "public/subscribe", "public/status", "public/test"]
