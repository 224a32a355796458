"""Permissions of each service at RabbitMQ: the kinds of messages that it publishes and receives, and its own queues."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from services.adapters.codec import kind_name
from services.adapters.rabbit.broker import market_name
from services.adapters.rabbit.bus import PING_KEY
from services.adapters.rabbit.role_queue import ANSWER_KEY, ROLE_KEY
from services.core.markets import LIVE, SIMULATED
from services.core.model import (
    ActiveExchange,
    Candle,
    CandleGap,
    ExchangeStatus,
    FeedGap,
    HighPriorityTask,
    HistoryRequest,
    IndicatorRequest,
    IndicatorValue,
    Kline,
    NormalPriorityTask,
    Quote,
    Rate,
    StoreQuery,
    StoreReply,
    TaskChange,
    Trade,
)
from services.ports import QUEUES, Kinds

OBSOLETE_USER = "kurs"  # the account of earlier versions
MATCH_NOTHING = "^$"
MARKET_SUFFIX = f"(-{SIMULATED})?"  # of every name
EXCLUSIVE_QUEUES = r"amq\.gen.*"  # the broker's names for exclusive queues


class BrokerPermissions(NamedTuple):
    """Permissions of one service. `queues`: the work queues that it declares and consumes, with their dead letters."""

    publishes: Kinds
    receives: Kinds
    role: str = ""
    queues: Sequence[str] = ()


TASK_QUEUES = ("tasks.high", "tasks.normal")
TASK_MESSAGES: Kinds = (HighPriorityTask, NormalPriorityTask, TaskChange)


PERMISSIONS: Mapping[str, BrokerPermissions] = {
    "collector": BrokerPermissions(
        (Quote, Trade, Kline, CandleGap, FeedGap, ExchangeStatus, StoreQuery), (HistoryRequest, StoreReply)
    ),
    "pricer": BrokerPermissions((Rate, ActiveExchange), (Quote, ExchangeStatus), role="pricer"),
    # beside candles it publishes imported messages, and replays the dead letters of all queues
    "writer": BrokerPermissions(
        (Candle, StoreReply, *chain.from_iterable(QUEUES.values())),
        (Rate, ExchangeStatus, StoreQuery),
        role="writer",
        queues=(*QUEUES,),
    ),
    "analyst": BrokerPermissions((IndicatorValue,), (Candle, IndicatorRequest, ExchangeStatus), role="analyst"),
    "accounts": BrokerPermissions(TASK_MESSAGES, (), queues=TASK_QUEUES),
    "api": BrokerPermissions(
        (IndicatorRequest, HistoryRequest, *TASK_MESSAGES),
        (Rate, ExchangeStatus, ActiveExchange, Candle, IndicatorValue, TaskChange),
    ),
}


def definitions(passwords: Mapping[str, str]) -> dict[str, object]:
    """Return RabbitMQ's `load_definitions`: an account for each service, with its password from `passwords`."""
    users: list[dict[str, object]] = [{"name": OBSOLETE_USER, "password_hash": "", "tags": []}]  # it cannot log in
    permissions = [_permission(OBSOLETE_USER, MATCH_NOTHING, MATCH_NOTHING, MATCH_NOTHING)]
    topics = list[dict[str, str]]()
    for name, password in passwords.items():
        users.append({"name": name, "password": password, "tags": []})
        permissions.append(_permission(name, *patterns(PERMISSIONS[name])))
        for market in (LIVE, SIMULATED):
            write, read = topic_patterns(PERMISSIONS[name])
            topics.append(
                {"user": name, "vhost": "/", "exchange": market_name("kurs", market), "write": write, "read": read}
            )
    return {"vhosts": [{"name": "/"}], "users": users, "permissions": permissions, "topic_permissions": topics}


def patterns(rights: BrokerPermissions) -> tuple[str, str, str]:
    """Return the patterns of names that may be configured, written to and read from."""
    role = [rf"{ROLE_KEY}\.{rights.role}{MARKET_SUFFIX}"] if rights.role else []
    exchange = f"kurs{MARKET_SUFFIX}"
    if not rights.queues:
        own = [EXCLUSIVE_QUEUES, *role]
        return _match_any(own), _match_any([*own, exchange]), _match_any([*own, exchange])
    queue = f"({'|'.join(map(re.escape, rights.queues))})"
    own = [EXCLUSIVE_QUEUES, *role, rf"{queue}(\.dead)?{MARKET_SUFFIX}", rf"worker\.{queue}{MARKET_SUFFIX}", exchange]
    # dead letters go through the default exchange, which reaches every queue
    return _match_any(own), _match_any([*own, r"amq\.default"]), _match_any(own)


def topic_patterns(rights: BrokerPermissions) -> tuple[str, str]:
    """Return the patterns of routing keys that it may publish with, and bind its queues to."""
    talk = [PING_KEY, *([ROLE_KEY, ANSWER_KEY] if rights.role else [])]
    return _match_first_word([*map(kind_name, rights.publishes), *talk]), _match_first_word(
        [*map(kind_name, rights.receives), *talk, *_queue_kinds(rights)]
    )


def _queue_kinds(rights: BrokerPermissions) -> Sequence[str]:
    return [kind_name(kind) for queue in rights.queues for kind in QUEUES[queue]]


def _permission(user: str, configure: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": "/", "configure": configure, "write": write, "read": read}


def _match_any(names: Iterable[str]) -> str:
    return f"^({'|'.join(names)})$"


def _match_first_word(first_words: Iterable[str]) -> str:
    return rf"^({'|'.join(map(re.escape, dict.fromkeys(first_words)))})\."
