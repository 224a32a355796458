"""What each service may do at RabbitMQ: which kinds of messages it publishes and receives, and its own queues."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from services.adapters.codec import tag
from services.adapters.rabbit.broker import named
from services.adapters.rabbit.bus import PING
from services.adapters.rabbit.role_queue import ANSWER, ROLE
from services.core.markets import LIVE, SIMULATED
from services.core.model import (
    Candle,
    Choice,
    Gap,
    HistoryRequest,
    Hole,
    Kline,
    Rate,
    Reading,
    State,
    StoreQuery,
    StoreReply,
    Tick,
    Trade,
    Wish,
)
from services.ports import QUEUES, Kinds

FORMER = "kurs"  # the one account of earlier versions
NOTHING = "^$"
MARKETS = f"(-{SIMULATED})?"  # behind every name
OWN = r"amq\.gen.*"  # the broker's names for exclusive queues


class Rights(NamedTuple):
    """One service's. `works_on`: the work queue that it declares, whose letters and dead letters it takes."""

    publishes: Kinds
    receives: Kinds
    role: str = ""
    works_on: str = ""


RIGHTS: Mapping[str, Rights] = {
    "collector": Rights((Tick, Trade, Kline, Hole, Gap, State, StoreQuery), (HistoryRequest, StoreReply)),
    "pricer": Rights((Rate, Choice), (Tick, State), role="pricer"),
    # what it publishes beside candles: messages that are replayed or imported
    "writer": Rights(
        (Candle, StoreReply, *QUEUES["writer"]), (Rate, State, StoreQuery), role="writer", works_on="writer"
    ),
    "analyst": Rights((Reading,), (Candle, Wish, State), role="analyst"),
    "api": Rights((Wish, HistoryRequest), (Rate, State, Choice, Candle, Reading)),
}


def definitions(passwords: Mapping[str, str]) -> dict[str, object]:
    """What RabbitMQ's `load_definitions` takes: an account per service, with its password by its name."""
    users: list[dict[str, object]] = [{"name": FORMER, "password_hash": "", "tags": []}]  # it logs in no more
    permissions = [_permission(FORMER, NOTHING, NOTHING, NOTHING)]
    topics = list[dict[str, str]]()
    for name, password in passwords.items():
        users.append({"name": name, "password": password, "tags": []})
        permissions.append(_permission(name, *patterns(RIGHTS[name])))
        for market in (LIVE, SIMULATED):
            write, read = topic_patterns(RIGHTS[name])
            topics.append({"user": name, "vhost": "/", "exchange": named("kurs", market), "write": write, "read": read})
    return {"vhosts": [{"name": "/"}], "users": users, "permissions": permissions, "topic_permissions": topics}


def patterns(rights: Rights) -> tuple[str, str, str]:
    """Names that may be configured, written to and read from."""
    role = [rf"{ROLE}\.{rights.role}{MARKETS}"] if rights.role else []
    exchange = f"kurs{MARKETS}"
    if not rights.works_on:
        own = [OWN, *role]
        return _any(own), _any([*own, exchange]), _any([*own, exchange])
    queue = rights.works_on
    own = [OWN, *role, rf"{queue}(\.dead)?{MARKETS}", rf"worker\.{queue}{MARKETS}", exchange]
    # the default exchange leads into every queue: this is who takes what is in them anyway
    return _any(own), _any([*own, r"amq\.default"]), _any(own)


def topic_patterns(rights: Rights) -> tuple[str, str]:
    """Routing keys that it may publish with, and bind its queues to."""
    talk = [PING, *([ROLE, ANSWER] if rights.role else [])]
    return _first([*map(tag, rights.publishes), *talk]), _first([*map(tag, rights.receives), *talk, *_worked(rights)])


def _worked(rights: Rights) -> Sequence[str]:
    return [tag(kind) for kind in QUEUES[rights.works_on]] if rights.works_on else []


def _permission(user: str, configure: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": "/", "configure": configure, "write": write, "read": read}


def _any(names: Iterable[str]) -> str:
    return f"^({'|'.join(names)})$"


def _first(words: Iterable[str]) -> str:
    return rf"^({'|'.join(map(re.escape, dict.fromkeys(words)))})\."
