"""Scopes: what a token allows."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """One thing that a token allows."""

    READ = "read"  # one's own data
    TRADE = "trade"  # orders on exchanges
    WALLET = "wallet"  # transactions of wallets
    SIGNAL = "signal"  # signals into trading sessions
    ADMIN = "admin"  # other people, all tasks, the audit log


class PersonRole(StrEnum):
    """What a person is to Kurs."""

    ADMIN = "admin"
    TRADER = "trader"


TRADER_SCOPES = frozenset({Scope.READ, Scope.TRADE, Scope.WALLET, Scope.SIGNAL})


def scopes_of(role: PersonRole) -> frozenset[Scope]:
    """Return all that a person of this role may do."""
    return TRADER_SCOPES | {Scope.ADMIN} if role is PersonRole.ADMIN else TRADER_SCOPES


def format_scopes(scopes: Iterable[Scope]) -> str:
    """Return scopes as one text, separated by spaces and in the order of `Scope` (RFC 6749, section 3.3)."""
    given = set(scopes)
    return " ".join(scope for scope in Scope if scope in given)


def parse_scopes(text: str) -> frozenset[Scope]:
    """Parse scopes separated by spaces. Raises ValueError for an unknown one."""
    return frozenset(map(Scope, text.split()))
