"""Access control of each service at Redis: the keys that it reads and writes, and the commands."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from services.adapters.redis.connection import key_prefix
from services.core.markets import LIVE, SIMULATED

MARKET_PREFIXES = (key_prefix(LIVE), key_prefix(SIMULATED))
LATEST_KEYS = ("rates", "rate:*", "states", "state:*", "choices", "choice:*")
PROBE_COMMANDS = ("ping", "set")  # a probe key is set to check that writes succeed
COUNTER_COMMANDS = ("eval", "time", "zrange", "zrem", "zadd", "hincrby", "unlink")
QUOTA_COMMANDS = ("hget", "hset", "hdel")
JOURNAL_COMMANDS = ("xadd", "xtrim", "xlen", "xrevrange", "scan", "expire", "del")
# Without a password, only a ping and the reload of the accounts are allowed.
DEFAULT_USER = "user default on nopass resetkeys resetchannels -@all +ping +acl|load"


class AclRule(NamedTuple):
    """Access of one service. `writes`: keys that it also reads."""

    commands: Sequence[str]
    writes: Sequence[str]
    reads: Sequence[str] = ()


ACL_RULES: Mapping[str, AclRule] = {
    "collector": AclRule((*COUNTER_COMMANDS, *JOURNAL_COMMANDS), ("count:{history}*", "journal:{state:*")),
    "pricer": AclRule(
        ("eval", "time", "sadd", "smembers", "hset", "hget", *JOURNAL_COMMANDS),
        (*LATEST_KEYS, "journal:{rates}", "journal:{choice}"),
    ),
    "writer": AclRule(JOURNAL_COMMANDS, ("journal:{candle:*",)),
    "analyst": AclRule(JOURNAL_COMMANDS, ("journal:{reading:*",)),
    "accounts": AclRule(("mget",), ("ticker:price:*", "pause:*"), ("ticker:wanted:*",)),
    "api": AclRule(
        ("smembers", "xrange", "xrevrange", "mget", "get", "getdel", "del", *COUNTER_COMMANDS, *QUOTA_COMMANDS),
        ("count:{quota}*", "candles:*", "indicators:*", "analysis:*", "symbols:*", "ticket:*", "ticker:wanted:*"),
        (*LATEST_KEYS, "journal:*", "ticker:price:*"),
    ),
}


def users(passwords: Mapping[str, Iterable[str]]) -> str:
    """Return an `aclfile`: an account for each service, with the hashes of the passwords that it may use."""
    return "\n".join([DEFAULT_USER, *(_user(name, allowed) for name, allowed in passwords.items()), ""])


def _user(name: str, passwords: Iterable[str]) -> str:
    rights = ACL_RULES[name]
    hashes = (f"#{sha256(password.encode()).hexdigest()}" for password in passwords)
    keys = [f"~{each}{key}" for key in ("probe", *rights.writes) for each in MARKET_PREFIXES]
    keys += [f"%R~{each}{key}" for key in rights.reads for each in MARKET_PREFIXES]
    commands = (f"+{command}" for command in dict.fromkeys((*PROBE_COMMANDS, *rights.commands)))
    return " ".join(["user", name, "on", *hashes, "resetchannels", *keys, "-@all", *commands])
