"""The parsers of all exchanges on recorded frames. A new exchange needs a file of them in tests/frames/."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

import services.core
from services.core.bounds import MAX_EXCHANGE_LEAD_MS
from services.core.errors import Misconfigured
from services.core.exchange import MAX_RETRY_AFTER_SECONDS, Event, Exchange, InvalidValue, RestResponse, validate_events
from services.core.model import Bar, Instrument, Kline, Quote, Trade
from services.core.trading_rules import TradingRules
from services.exchanges import EXCHANGES, configured_exchanges
from services.settings import load
from tests.recorded_frames import FRAMES_FOLDER, NOW, RecordedFrame, parse_by_way, recorded_frames

EXCHANGE_WAYS = ("socket", "poll", "missed", "history", "listing", "rules", "index")


def parse_frame(exchange: Exchange, row: RecordedFrame) -> Sequence[Event]:
    events = validate_events(parse_by_way(exchange, row), NOW + MAX_EXCHANGE_LEAD_MS)
    if events and all(isinstance(event, InvalidValue) for event in events):
        raise ValueError(events)
    return events


def event_as_json(event: Event) -> list[object]:
    """Return an event as in JSON: its kind, then its fields, prices as text with all digits."""
    if isinstance(event, Trade | Kline | TradingRules):
        return [type(event).__name__, _value_as_json(event)]
    return [type(event).__name__, *(_value_as_json(value) for value in event)]


def _value_as_json(value: object) -> object:
    match value:
        case Quote() | Trade() | Kline() | Bar() | TradingRules():
            given = {name: getattr(value, name) for name in value.__struct_fields__}
            return {
                name: _value_as_json(part) for name, part in given.items() if part is not None and name != "received"
            }
        case Instrument() | Decimal():
            return str(value)
        case tuple():
            return [_value_as_json(part) for part in value]
    return value


def rows() -> Iterator[object]:
    for name in EXCHANGES:
        if not (FRAMES_FOLDER / f"{name}.jsonl").exists():
            yield pytest.param(name, None, id=name)
            continue
        for number, row in enumerate(recorded_frames(name), 1):
            yield pytest.param(name, row, id=f"{name}-{number}")


@pytest.mark.parametrize(("name", "row"), list(rows()))
def test_recorded_frame_is_parsed_to_its_events(name: str, row: RecordedFrame | None) -> None:
    assert row, f"tests/frames/{name}.jsonl: record what {name} sends, with what it means"
    if row.events is None:
        with pytest.raises(ValueError):  # noqa: PT011  each parser has its own texts
            parse_frame(EXCHANGES[name], row)
    else:
        assert [event_as_json(event) for event in parse_frame(EXCHANGES[name], row)] == row.events


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_parser_of_an_exchange_has_a_recorded_frame(name: str) -> None:
    exchange, ways = EXCHANGES[name], {row.by for row in recorded_frames(name) if row.events}
    offered = {
        "socket": exchange.stream,
        "poll": exchange.poll,
        "missed": exchange.refetch_trades,
        "listing": exchange.instrument_status,
        "history": exchange.klines,
        "rules": exchange.trading_rules,
        "index": exchange.index_price,
    }
    assert {way for way, offer in offered.items() if offer} <= ways


def test_coingecko_plan_selects_host_header_and_interval_and_no_url_has_the_key() -> None:
    keyless, demo, pro = (
        configured_exchanges(load(exchanges="coingecko", coingecko_plan=plan, coingecko_key=key))[0]
        for plan, key in (("keyless", ""), ("demo", "CG-demo"), ("pro", "CG-pro"))
    )
    assert keyless.credentials() == {}
    assert (demo.rest_urls[0], demo.credentials()) == ("https://api.coingecko.com", {"x-cg-demo-api-key": "CG-demo"})
    assert (pro.rest_urls[0], pro.credentials()) == ("https://pro-api.coingecko.com", {"x-cg-pro-api-key": "CG-pro"})
    assert 31 * 24 * 3600 / demo.poll_seconds <= 10_000
    wanted = (Instrument("BTC", "USD"),)
    assert pro.stream
    assert pro.poll
    text = repr((pro, pro.stream(wanted), pro.poll(wanted, {}), [ask.path for ask in pro.poll(wanted, {})]))
    assert "CG-pro" not in text
    assert pro.simulated_at("http://127.0.0.1:1/simulator").credentials() == {}


@pytest.mark.parametrize("name", EXCHANGES)
def test_simulated_exchange_has_only_addresses_of_the_simulator(name: str) -> None:
    simulated = EXCHANGES[name].simulated_at("http://127.0.0.1:8000/simulator/")
    assert simulated.simulated
    assert simulated.rest_urls == (f"http://127.0.0.1:8000/simulator/{name}",)
    assert simulated.ws_urls in ((), (f"ws://127.0.0.1:8000/simulator/{name}",))


def test_unknown_exchange_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(Misconfigured, match=f"KURS_EXCHANGES: 'quadriga' is not one of {', '.join(EXCHANGES)}"):
        configured_exchanges(load(exchanges="binance,quadriga"))


@pytest.mark.parametrize(
    ("name", "status", "headers", "seconds"),
    [
        ("binance", 429, {"retry-after": "7"}, 7),
        ("binance", 418, {"retry-after": "120"}, 120),
        ("binance", 429, {}, 60),
        ("binance", 200, {"x-mbx-used-weight-1m": "100"}, 0),
        ("binance", 200, {"x-mbx-used-weight-1m": "5900"}, 60 - NOW / 1000 % 60),
        ("binance", 451, {}, 0),
        ("deribit", 429, {}, 60),
        ("coingecko", 429, {}, 60),
        ("coingecko", 429, {"retry-after": "30"}, 30),
        ("coingecko", 429, {"x-ratelimit-reset": "2027-01-15 08:00:20 +0000"}, 20),
        ("coingecko", 429, {"x-ratelimit-reset": "tomorrow"}, 60),
    ],
)
def test_retry_delay_follows_status_and_headers(
    name: str, status: int, headers: dict[str, str], seconds: float
) -> None:
    assert EXCHANGES[name].retry_delay(RestResponse(status, headers), NOW) == seconds


BAN_TEXT = '{"code":-1003,"msg":"Way too much request weight used; IP banned until %s. Please use WebSocket Streams."}'


@pytest.mark.parametrize(
    ("status", "headers", "until", "seconds"),
    [
        (418, {}, NOW + 3_600_000, 3600),
        (429, {}, NOW + 3_600_000, 3600),
        (403, {}, NOW + 3_600_000, 3600),
        (418, {"retry-after": "7"}, NOW + 3_600_000, 3600),
        (418, {"retry-after": "7200"}, NOW + 3_600_000, 7200),
        (418, {}, NOW + 999 * 86_400_000, MAX_RETRY_AFTER_SECONDS),
        (418, {}, 9_999_999_999_999, MAX_RETRY_AFTER_SECONDS),
        (418, {}, 99_999_999_999_999_999_999, 60),
        (418, {}, NOW - 1, 60),
        (403, {}, "tomorrow", 0),
        (200, {}, NOW + 3_600_000, 0),
    ],
)
@pytest.mark.parametrize("name", EXCHANGES)
def test_retry_delay_lasts_until_the_end_of_a_ban_in_the_body(
    name: str, status: int, headers: dict[str, str], until: object, seconds: float
) -> None:
    assert EXCHANGES[name].retry_delay(RestResponse(status, headers, (BAN_TEXT % until).encode()), NOW) == seconds


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("binance", b'{"code":-1121,"msg":"Invalid symbol."}', "Invalid symbol."),
        ("binance", b"<html>403 Forbidden</html>", ""),
        ("binance", b"", ""),
        ("deribit", b'{"jsonrpc":"2.0","error":{"code":13004,"message":"invalid_credentials"}}', "invalid_credentials"),
        ("coingecko", b'{"status":{"error_code":429,"error_message":"Rate Limit"}}', "Rate Limit (429)"),
        ("coingecko", b'{"error":{"status":{"error_code":10012,"error_message":"too old"}}}', "too old (10012)"),
        ("coingecko", b'{"error":"coin not found"}', "coin not found"),
        ("coingecko", b"[1]", ""),
        ("coingecko", b"<!DOCTYPE html>", ""),
    ],
)
def test_error_text_is_read_from_every_shape_of_body(name: str, body: bytes, expected: str) -> None:
    assert EXCHANGES[name].error_text(body).startswith(expected)
    assert bool(EXCHANGES[name].error_text(body)) == bool(expected)


def test_core_names_no_exchange() -> None:
    names = re.compile("|".join(EXCHANGES), re.IGNORECASE)
    core = Path(services.core.__file__).parent
    named = [path.name for path in core.rglob("*.py") if names.search(path.read_text())]
    assert not named, "a fact about one exchange belongs to its value in services/exchanges/"


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchange_has_a_simulator_if_its_folder_exists(name: str) -> None:
    simulator = Path(services.core.__file__).parents[1] / "simulator"
    assert EXCHANGES[name].has_simulator == (simulator / name).is_dir()
