"""The streams say what docs/asyncapi.yaml says: every kind of message, both ways, and nothing that is not described."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from services.api.streams.channels import Channel
from services.api.streams.client import SLOW
from services.api.streams.encoders import EVENTS, FRAMES, HEARTBEAT_SECONDS
from services.core.model import Choice, Message, Reading, SeriesProgress, Switch
from tests.api import Client, Event, client, events, replica
from tests.service.test_streams import BTC, SERIES, candle, rate, state

DESCRIPTION = yaml.safe_load((Path(__file__).parents[2] / "docs/asyncapi.yaml").read_text())
CHANNELS = ("candles:BTCUSDT:1m", "indicators:BTCUSDT:1m:sma:20", "btc_usd", "courses", "connection", "source_changed")


def found(reference: str) -> Any:
    """What a `$ref` points at."""
    place = DESCRIPTION
    for name in reference.removeprefix("#/").split("/"):
        place = place[name]
    return found(place["$ref"]) if "$ref" in place else place


def closed(schema: Any) -> Any:
    """A schema in one piece that allows nothing which it does not describe."""
    if "$ref" in schema:
        return closed(found(schema["$ref"]))
    if "oneOf" in schema:
        return {**schema, "oneOf": [closed(each) for each in schema["oneOf"]]}
    parts = [closed(each) for each in schema.get("allOf", ())]
    if not parts and schema.get("type") != "object":
        return schema
    properties = {name: each for part in parts for name, each in part["properties"].items()}
    properties |= {name: closed(each) for name, each in schema.get("properties", {}).items()}
    required = [name for part in (schema, *parts) for name in part.get("required", ())]
    more = schema.get("additionalProperties", False)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": more}


MESSAGES = {name: found(message["$ref"]) for name, message in DESCRIPTION["channels"]["socket"]["messages"].items()}
EVENTS_TOLD = {name: found(message["$ref"]) for name, message in DESCRIPTION["channels"]["stream"]["messages"].items()}
FOLLOWED = Channel("candles:BTCUSDT:1m", ("",), "price_update", {"symbol": "BTCUSDT", "timeframe": "1m"})
LOADED = (None, SeriesProgress(BTC, "1m", 0, 0, 0, "429"), SeriesProgress(BTC, "1m", 0, 9, 2))
SAID_BY_CLIENTS = ("subscribe", "unsubscribe", "resume", "ping")


def complaints(schema: Any, value: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(closed(schema)).iter_errors(value)]


def kind_of(event: Event) -> str:
    """As what an event is described: as exactly one."""
    headers = {"event": event.name} | ({"id": event.id} if event.id else {})
    kinds: list[str] = [
        name
        for name, each in EVENTS_TOLD.items()
        if not complaints(each["headers"], headers) and not complaints(each["payload"], event.data)
    ]
    assert len(kinds) == 1, (event, kinds)
    return kinds[0]


@pytest.mark.parametrize("message", [*MESSAGES.values(), *EVENTS_TOLD.values()], ids=[*MESSAGES, *EVENTS_TOLD])
def test_every_message_has_examples_that_are_as_described(message: Any) -> None:
    assert message["examples"]
    for example in message["examples"]:
        assert not complaints(message["payload"], example["payload"])
        assert not complaints(message.get("headers", {}), example.get("headers", {}))


def test_every_message_belongs_to_an_operation() -> None:
    operations = DESCRIPTION["operations"].values()
    used = {each["$ref"].rpartition("/")[2] for operation in operations for each in operation.get("messages", ())}
    replies = {each["$ref"].rpartition("/")[2] for each in DESCRIPTION["operations"]["ask"]["reply"]["messages"]}
    assert used | replies == set(MESSAGES)


async def test_the_socket_says_and_understands_what_is_described() -> None:
    slow = [
        FRAMES.beat(HEARTBEAT_SECONDS - 1),
        FRAMES.notice("skipped", ["courses"], SLOW),
    ]  # what takes long to happen
    told = [json.loads(frame[2:]) for frame in slow]
    for progress in LOADED:
        frame = FRAMES.loading(FOLLOWED, progress)
        told.append(json.loads(frame[frame.index(b"{") :]))
    async with replica() as here, client(here) as one:
        await here.tell(*news(1))
        for name in SAID_BY_CLIENTS:
            for example in MESSAGES[name]["examples"]:
                await one.ask(**example["payload"])
        await one.ask(action="unsubscribe", channels=CHANNELS)
        await one.ask(action="subscribe", channels=CHANNELS)
        told += await all_told(one)
        assert not [message for message in told if message["type"] == "error"]
        await one.ask(action="subscrbe", id=3)
        await here.tell(*news(2))
        told += await all_told(one)
    for message in told:
        assert not complaints(MESSAGES[message["type"]]["payload"], message), message
    assert {message["type"] for message in told} == set(MESSAGES) - set(SAID_BY_CLIENTS)


async def test_the_event_stream_says_what_is_described() -> None:
    _, *lines = EVENTS.notice("skipped", ["courses"], SLOW).decode().splitlines()
    words = dict(line.split(": ", 1) for line in lines if line)
    told = [Event("", words["event"], json.loads(words["data"]))]
    for progress in LOADED:
        data = EVENTS.loading(FOLLOWED, progress).decode().partition("data: ")[2].partition("\n")[0]
        told.append(Event("", "loading", json.loads(data)))
    async with replica() as here:
        await here.tell(*news(1))
        async with events(here, ",".join(CHANNELS), timer="0") as stream:
            told += [await stream.next() for _ in CHANNELS]
            await here.tell(*news(2))
            told += [await stream.next() for _ in CHANNELS]
        async with events(here, "connection", after="1,2,3") as stream:
            told.append(await stream.next())
            here.deps.hub.close()
            while told[-1].name != "closing":
                told.append(await stream.next())
    assert {kind_of(event) for event in told} == set(EVENTS_TOLD)


def news(number: int) -> list[Message]:
    """Something of every kind; each number is a change."""
    switch = Switch(number, None, "binance", "the first")
    return [
        candle(number, 100),
        Reading(SERIES, "sma:20", number, {"sma": None if number == 1 else 101.25}, closed=False),
        rate(BTC, f"{number}.5"),
        state(number == 1, "as it is"),
        Choice(number, "binance", number, "", number, (switch,)),
    ]


async def all_told(one: Client) -> list[Any]:
    """All that was told by now."""
    await one.ask(action="ping", id="so far")
    told = [await one.next()]
    while told[-1].get("id") != "so far":
        told.append(await one.next())
    return told
