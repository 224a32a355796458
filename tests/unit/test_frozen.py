"""Names that others depend on do not change: messages in queues, topics in Redis, tables, metrics, commands, settings.

`python -m tests.unit.test_frozen > tests/frozen.json` records what was added on purpose. Before a name is removed,
one release has to understand the old and the new name, or a migration has to rename it.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import inspect
from prometheus_client import REGISTRY

import services
from services.adapters.sql.tables import metadata
from services.command_line import CLIENT_COMMANDS, STORE_COMMANDS
from services.core import journal
from services.core.journal import JournalEntry
from services.core.model import Instrument, Message, Series
from services.exchanges import EXCHANGES
from services.runtime import SERVICES
from services.settings import Settings
from services.settings.sources import environment_name

FROZEN = Path(__file__).parents[1] / "frozen.json"
PROGRAMS = ("services.__main__", "services.healthcheck")  # run when they are imported
ONE_SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")


def wire(type_: inspect.Type) -> Any:  # noqa: PLR0911  one for each kind
    """Return the JSON form of a type: names and kinds of its fields, without class names."""
    match type_:
        case inspect.StructType(fields=fields, tag_field=tag_field, tag=tag):
            tagged = {tag_field: tag} if tag_field else {}
            return tagged | {each.encode_name: wire(each.type) for each in fields}
        case inspect.NamedTupleType(fields=fields):
            return [wire(each.type) for each in fields]
        case inspect.UnionType(types=types):
            return {"any of": sorted((wire(each) for each in types), key=json.dumps)}
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return {"list of": wire(item)}
        case inspect.TupleType(item_types=items):
            return [wire(each) for each in items]
        case inspect.DictType(key_type=key, value_type=value):
            return {"by": wire(key), "of": wire(value)}
        case inspect.EnumType(cls=cls):
            return {"one of": sorted(str(each.value) for each in cls)}
        case inspect.LiteralType(values=values):
            return {"one of": sorted(map(str, values))}
        case _:
            return type(type_).__name__.removesuffix("Type").lower()


def messages() -> Mapping[str, Any]:
    """Return every message of the bus by its tag."""
    found: dict[str, Any] = {}
    for type_ in inspect.multi_type_info(kinds(Message)):
        assert isinstance(type_, inspect.StructType)
        found[str(type_.tag)] = wire(type_)
    return found


def kinds(union: Any) -> Iterator[type]:
    """Yield the classes of a union of unions."""
    for each in getattr(union, "__args__", ()):
        yield from kinds(each) if hasattr(each, "__args__") else (each,)


def topics() -> Mapping[str, str]:
    """Return names of topics as they stand in Redis and in cursors of clients."""
    return {
        "rates": journal.RATES_TOPIC,
        "choice": journal.ACTIVE_EXCHANGE_TOPIC,
        "state": journal.status_topic("binance"),
        "candle": journal.candle_topic(ONE_SERIES),
        "reading": journal.indicator_topic(ONE_SERIES, "sma:20"),
    }


def metrics() -> Mapping[str, str]:
    """Return the kind of every metric by its name."""
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if module.name not in PROGRAMS:
            importlib.import_module(module.name)
    return {each.name: each.type for each in REGISTRY.collect() if each.name.startswith("kurs_")}


def names() -> Mapping[str, Any]:
    """Return everything that others refer to by name."""
    return {
        "messages": messages(),
        "journal entry": wire(inspect.type_info(JournalEntry)),
        "topics": topics(),
        "metrics": metrics(),
        "commands": sorted({*SERVICES, *STORE_COMMANDS, *CLIENT_COMMANDS, "migrate", "openapi"}),
        "exchanges": sorted(EXCHANGES),
        "settings": sorted(environment_name(field, Settings) for field in Settings.model_fields),
        "tables": {name: sorted(column.name for column in table.columns) for name, table in metadata.tables.items()},
    }


def test_names_that_others_depend_on_have_not_changed() -> None:
    frozen, current = json.loads(FROZEN.read_text()), json.loads(json.dumps(names()))
    assert set(frozen.pop("exchanges")) <= set(current.pop("exchanges"))  # a new one is one file
    assert current == frozen


if __name__ == "__main__":
    print(json.dumps(names(), indent=1, sort_keys=True))  # noqa: T201
