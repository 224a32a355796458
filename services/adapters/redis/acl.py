"""What each service may do at Redis: which keys it reads and writes, with which commands."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from services.adapters.redis.connection import prefix
from services.core.markets import LIVE, SIMULATED

PREFIXES = (prefix(LIVE), prefix(SIMULATED))
CURRENT = ("rates", "rate:*", "states", "state:*", "choices", "choice:*")
ALWAYS = ("ping", "set")  # a probe is set so as to know that something can be
COUNTING = ("eval", "time", "zrange", "zrem", "zadd", "hincrby", "del")
APPENDING = ("xadd", "xtrim", "xlen", "xrevrange", "scan", "expire", "del")
# Without a password one may ask whether Redis lives, and have it read its accounts again.
DEFAULT = "user default on nopass resetkeys resetchannels -@all +ping +acl|load"


class Rights(NamedTuple):
    """One service's. `writes`: keys that it reads too."""

    commands: Sequence[str]
    writes: Sequence[str]
    reads: Sequence[str] = ()


RIGHTS: Mapping[str, Rights] = {
    "collector": Rights((*COUNTING, *APPENDING), ("count:{history}*", "journal:{state:*")),
    "pricer": Rights(
        ("eval", "time", "sadd", "smembers", "hset", "hget", *APPENDING),
        (*CURRENT, "journal:{rates}", "journal:{choice}"),
    ),
    "writer": Rights(APPENDING, ("journal:{candle:*",)),
    "analyst": Rights(APPENDING, ("journal:{reading:*",)),
    "api": Rights(
        ("smembers", "hget", "xrange", "xrevrange", "mget", "get", *COUNTING),
        ("count:{quota}*", "candles:*", "indicators:*", "analysis:*", "symbols:*"),
        (*CURRENT, "journal:*"),
    ),
}


def users(passwords: Mapping[str, Iterable[str]]) -> str:
    """An `aclfile`: an account per service with the passwords that it may use, of which only hashes are written."""
    return "\n".join([DEFAULT, *(_user(name, words) for name, words in passwords.items()), ""])


def _user(name: str, passwords: Iterable[str]) -> str:
    rights = RIGHTS[name]
    hashes = (f"#{sha256(password.encode()).hexdigest()}" for password in passwords)
    keys = [f"~{each}{key}" for key in ("probe", *rights.writes) for each in PREFIXES]
    keys += [f"%R~{each}{key}" for key in rights.reads for each in PREFIXES]
    commands = (f"+{command}" for command in dict.fromkeys((*ALWAYS, *rights.commands)))
    return " ".join(["user", name, "on", *hashes, "resetchannels", *keys, "-@all", *commands])
