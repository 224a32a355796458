"""Every message of the streams, in both directions, compared with docs/asyncapi.yaml."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from services.api.accounts.task_json import task_fields
from services.api.streams.channels import Channel
from services.api.streams.encoders import HEARTBEAT_SECONDS, SSE, WEBSOCKET
from services.api.streams.output import SKIPPED_REASON
from services.core.model import ActiveExchange, ExchangeSwitch, IndicatorValue, Message, SeriesProgress
from services.core.tasks import Task
from tests.api import ServerSentEvent, StreamTestClient, connect_client, open_event_stream, serve_replica
from tests.stream_messages import BTC, SERIES, candle, exchange_status, rate

DESCRIPTION = yaml.safe_load((Path(__file__).parents[2] / "docs/asyncapi.yaml").read_text())
CHANNELS = ("candles:BTCUSDT:1m", "indicators:BTCUSDT:1m:sma:20", "btc_usd", "courses", "connection", "source_changed")


def resolve_reference(reference: str) -> Any:
    """Return what a `$ref` points at."""
    found = DESCRIPTION
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return resolve_reference(found["$ref"]) if "$ref" in found else found


def closed_schema(schema: Any) -> Any:
    """Return the schema without references. It allows no properties beyond those that it describes."""
    if "$ref" in schema:
        return closed_schema(resolve_reference(schema["$ref"]))
    if "oneOf" in schema:
        return {**schema, "oneOf": [closed_schema(each) for each in schema["oneOf"]]}
    if "items" in schema:
        return {**schema, "items": closed_schema(schema["items"])}
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
TASKS_CHANNEL = Channel("tasks", (), "task_update", {})
TASKS = {
    "tasks": [
        task_fields(Task(id="1", name="x", person="p", due=1, created_at=1)),
        task_fields(Task(id="2", name="x", person="p", due=1, created_at=1, result='{"n":1}', progress=5, error="no")),
    ]
}
CLIENT_MESSAGES = ("subscribe", "unsubscribe", "resume", "ping")


def schema_errors(schema: Any, value: Any) -> list[str]:
    return [
        f"{error.json_path}: {error.message}" for error in Draft7Validator(closed_schema(schema)).iter_errors(value)
    ]


def event_kind(event: ServerSentEvent) -> str:
    """Return the only description that an event matches."""
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


def test_every_described_message_belongs_to_an_operation() -> None:
    operations = DESCRIPTION["operations"].values()
    used = {each["$ref"].rpartition("/")[2] for operation in operations for each in operation.get("messages", ())}
    replies = {each["$ref"].rpartition("/")[2] for each in DESCRIPTION["operations"]["request"]["reply"]["messages"]}
    assert used | replies == set(MESSAGES)


async def test_websocket_messages_match_their_schemas() -> None:
    rare = [
        WEBSOCKET.heartbeat(HEARTBEAT_SECONDS - 1),
        WEBSOCKET.notice("skipped", ["courses"], SKIPPED_REASON),
    ]
    for is_snapshot in (True, False):
        frame = WEBSOCKET.unnumbered(TASKS_CHANNEL, TASKS, is_snapshot=is_snapshot)
        rare.append(frame[:2] + frame[frame.index(b"{") :])
    received = [json.loads(frame[2:]) for frame in rare]
    for progress in LOADING_STEPS:
        frame = WEBSOCKET.loading(CANDLE_CHANNEL, progress)
        received.append(json.loads(frame[frame.index(b"{") :]))
    async with serve_replica() as replica, connect_client(replica) as client:
        await replica.publish(*messages_of_all_kinds(1))
        for name in CLIENT_MESSAGES:
            for example in MESSAGES[name]["examples"]:
                await client.send(**example["payload"])
        await client.send(action="unsubscribe", channels=CHANNELS)
        await client.send(action="subscribe", channels=CHANNELS)
        received += await received_messages(client)
        assert not [message for message in received if message["type"] == "error"]
        await client.send(action="subscrbe", id=3)
        await replica.publish(*messages_of_all_kinds(2))
        received += await received_messages(client)
    for message in received:
        assert not schema_errors(MESSAGES[message["type"]]["payload"], message), message
    assert {message["type"] for message in received} == set(MESSAGES) - set(CLIENT_MESSAGES)


async def test_server_sent_events_match_their_schemas() -> None:
    _, *lines = SSE.notice("skipped", ["courses"], SKIPPED_REASON).decode().splitlines()
    fields = dict(line.split(": ", 1) for line in lines if line)
    received = [ServerSentEvent("", fields["event"], json.loads(fields["data"]))]
    for is_snapshot in (True, False):
        data = SSE.unnumbered(TASKS_CHANNEL, TASKS, is_snapshot=is_snapshot).decode()
        received.append(ServerSentEvent("", "tasks", json.loads(data.partition("data: ")[2].partition("\n")[0])))
    for progress in LOADING_STEPS:
        data = SSE.loading(CANDLE_CHANNEL, progress).decode().partition("data: ")[2].partition("\n")[0]
        received.append(ServerSentEvent("", "loading", json.loads(data)))
    async with serve_replica() as replica:
        await replica.publish(*messages_of_all_kinds(1))
        async with open_event_stream(replica, ",".join(CHANNELS), timer="0") as stream:
            received += [await stream.next() for _ in CHANNELS]
            await replica.publish(*messages_of_all_kinds(2))
            received += [await stream.next() for _ in CHANNELS]
        async with open_event_stream(replica, "connection", after="1,2,3") as stream:
            received.append(await stream.next())
            replica.deps.hub.close()
            while received[-1].name != "closing":
                received.append(await stream.next())
    assert {event_kind(event) for event in received} == set(EVENT_SCHEMAS)


def messages_of_all_kinds(number: int) -> list[Message]:
    """Return a message of every kind. Another number gives other values."""
    switch = ExchangeSwitch(number, None, "binance", "the first")
    return [
        candle(number, 100),
        IndicatorValue(SERIES, "sma:20", number, {"sma": None if number == 1 else 101.25}, closed=False),
        rate(BTC, f"{number}.5"),
        exchange_status(number == 1, "as it is"),
        ActiveExchange(number, "binance", number, "", number, (switch,)),
    ]


async def received_messages(client: StreamTestClient) -> list[Any]:
    """Return all messages that were sent until now."""
    await client.send(action="ping", id="so far")
    received = [await client.next()]
    while received[-1].get("id") != "so far":
        received.append(await client.next())
    return received
