"""The streams say what docs/asyncapi.yaml says: every kind of message, both ways, and nothing that is not described."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from services.api.streams.channels import Channel
from services.api.streams.encoders import HEARTBEAT_SECONDS, SSE, WEBSOCKET
from services.api.streams.output import SKIPPED_REASON
from services.core.model import ActiveExchange, ExchangeSwitch, IndicatorValue, Message, SeriesProgress
from tests.api import ServerSentEvent, StreamTestClient, connect_client, open_event_stream, serve_replica
from tests.stream_messages import BTC, SERIES, candle, exchange_status, rate

DESCRIPTION = yaml.safe_load((Path(__file__).parents[2] / "docs/asyncapi.yaml").read_text())
CHANNELS = ("candles:BTCUSDT:1m", "indicators:BTCUSDT:1m:sma:20", "btc_usd", "courses", "connection", "source_changed")


def resolve_reference(reference: str) -> Any:
    """What a `$ref` points at."""
    place = DESCRIPTION
    for name in reference.removeprefix("#/").split("/"):
        place = place[name]
    return resolve_reference(place["$ref"]) if "$ref" in place else place


def closed_schema(schema: Any) -> Any:
    """A schema in one piece that allows nothing which it does not describe."""
    if "$ref" in schema:
        return closed_schema(resolve_reference(schema["$ref"]))
    if "oneOf" in schema:
        return {**schema, "oneOf": [closed_schema(each) for each in schema["oneOf"]]}
    parts = [closed_schema(each) for each in schema.get("allOf", ())]
    if not parts and schema.get("type") != "object":
        return schema
    properties = {name: each for part in parts for name, each in part["properties"].items()}
    properties |= {name: closed_schema(each) for name, each in schema.get("properties", {}).items()}
    required = [name for part in (schema, *parts) for name in part.get("required", ())]
    more = schema.get("additionalProperties", False)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": more}


MESSAGES = {
    name: resolve_reference(message["$ref"]) for name, message in DESCRIPTION["channels"]["socket"]["messages"].items()
}
EVENT_SCHEMAS = {
    name: resolve_reference(message["$ref"]) for name, message in DESCRIPTION["channels"]["stream"]["messages"].items()
}
CANDLE_CHANNEL = Channel("candles:BTCUSDT:1m", ("",), "price_update", {"symbol": "BTCUSDT", "timeframe": "1m"})
LOADING_STEPS = (None, SeriesProgress(BTC, "1m", 0, 0, 0, "429"), SeriesProgress(BTC, "1m", 0, 9, 2))
CLIENT_MESSAGES = ("subscribe", "unsubscribe", "resume", "ping")


def schema_errors(schema: Any, value: Any) -> list[str]:
    return [
        f"{error.json_path}: {error.message}" for error in Draft7Validator(closed_schema(schema)).iter_errors(value)
    ]


def event_kind(event: ServerSentEvent) -> str:
    """As what an event is described: as exactly one."""
    headers = {"event": event.name} | ({"id": event.id} if event.id else {})
    kinds: list[str] = [
        name
        for name, each in EVENT_SCHEMAS.items()
        if not schema_errors(each["headers"], headers) and not schema_errors(each["payload"], event.data)
    ]
    assert len(kinds) == 1, (event, kinds)
    return kinds[0]


@pytest.mark.parametrize("message", [*MESSAGES.values(), *EVENT_SCHEMAS.values()], ids=[*MESSAGES, *EVENT_SCHEMAS])
def test_examples_of_every_message_match_its_schema(message: Any) -> None:
    assert message["examples"]
    for example in message["examples"]:
        assert not schema_errors(message["payload"], example["payload"])
        assert not schema_errors(message.get("headers", {}), example.get("headers", {}))


def test_every_message_belongs_to_an_operation() -> None:
    operations = DESCRIPTION["operations"].values()
    used = {each["$ref"].rpartition("/")[2] for operation in operations for each in operation.get("messages", ())}
    replies = {each["$ref"].rpartition("/")[2] for each in DESCRIPTION["operations"]["request"]["reply"]["messages"]}
    assert used | replies == set(MESSAGES)


async def test_websocket_messages_match_asyncapi() -> None:
    slow = [
        WEBSOCKET.heartbeat(HEARTBEAT_SECONDS - 1),
        WEBSOCKET.notice("skipped", ["courses"], SKIPPED_REASON),
    ]  # what takes long to happen
    told = [json.loads(frame[2:]) for frame in slow]
    for progress in LOADING_STEPS:
        frame = WEBSOCKET.loading(CANDLE_CHANNEL, progress)
        told.append(json.loads(frame[frame.index(b"{") :]))
    async with serve_replica() as here, connect_client(here) as one:
        await here.publish(*messages_of_all_kinds(1))
        for name in CLIENT_MESSAGES:
            for example in MESSAGES[name]["examples"]:
                await one.send(**example["payload"])
        await one.send(action="unsubscribe", channels=CHANNELS)
        await one.send(action="subscribe", channels=CHANNELS)
        told += await received_messages(one)
        assert not [message for message in told if message["type"] == "error"]
        await one.send(action="subscrbe", id=3)
        await here.publish(*messages_of_all_kinds(2))
        told += await received_messages(one)
    for message in told:
        assert not schema_errors(MESSAGES[message["type"]]["payload"], message), message
    assert {message["type"] for message in told} == set(MESSAGES) - set(CLIENT_MESSAGES)


async def test_server_sent_events_match_asyncapi() -> None:
    _, *lines = SSE.notice("skipped", ["courses"], SKIPPED_REASON).decode().splitlines()
    words = dict(line.split(": ", 1) for line in lines if line)
    told = [ServerSentEvent("", words["event"], json.loads(words["data"]))]
    for progress in LOADING_STEPS:
        data = SSE.loading(CANDLE_CHANNEL, progress).decode().partition("data: ")[2].partition("\n")[0]
        told.append(ServerSentEvent("", "loading", json.loads(data)))
    async with serve_replica() as here:
        await here.publish(*messages_of_all_kinds(1))
        async with open_event_stream(here, ",".join(CHANNELS), timer="0") as stream:
            told += [await stream.next() for _ in CHANNELS]
            await here.publish(*messages_of_all_kinds(2))
            told += [await stream.next() for _ in CHANNELS]
        async with open_event_stream(here, "connection", after="1,2,3") as stream:
            told.append(await stream.next())
            here.deps.hub.close()
            while told[-1].name != "closing":
                told.append(await stream.next())
    assert {event_kind(event) for event in told} == set(EVENT_SCHEMAS)


def messages_of_all_kinds(number: int) -> list[Message]:
    """Something of every kind; each number is a change."""
    switch = ExchangeSwitch(number, None, "binance", "the first")
    return [
        candle(number, 100),
        IndicatorValue(SERIES, "sma:20", number, {"sma": None if number == 1 else 101.25}, closed=False),
        rate(BTC, f"{number}.5"),
        exchange_status(number == 1, "as it is"),
        ActiveExchange(number, "binance", number, "", number, (switch,)),
    ]


async def received_messages(one: StreamTestClient) -> list[Any]:
    """All that was told by now."""
    await one.send(action="ping", id="so far")
    told = [await one.next()]
    while told[-1].get("id") != "so far":
        told.append(await one.next())
    return told
