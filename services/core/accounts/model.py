"""People and what belongs to them, as it is stored. Times are milliseconds since the epoch, UTC.

No struct has a secret in clear: passwords and tokens are hashes, keys are wrapped.
"""

from enum import StrEnum

from msgspec import Struct

from services.core.accounts.scopes import PersonRole


class PersonState(StrEnum):
    """Whether a person may sign in."""

    ACTIVE = "active"
    DISABLED = "disabled"


class Person(Struct, frozen=True, kw_only=True):
    """An account of a human. `name` is unique and in lower case."""

    id: str  # UUID version 7
    name: str
    password_hash: str  # Argon2id in PHC form
    role: PersonRole = PersonRole.TRADER
    state: PersonState = PersonState.ACTIVE
    created_at: int
    password_changed_at: int


class Invitation(Struct, frozen=True, kw_only=True):
    """A code with which one person may register."""

    id: str
    code_hash: str  # hex SHA-256
    role: PersonRole = PersonRole.TRADER
    created_by: str  # a person's id; empty: the operator
    created_at: int
    expires_at: int
    used_by: str | None = None
    used_at: int | None = None


class RevokeReason(StrEnum):
    """Why a sign-in ended before its time."""

    SIGN_OUT = "sign_out"
    REUSE = "reuse"  # an old refresh token was presented again
    ADMIN = "admin"
    PASSWORD = "password"  # noqa: S105  it was changed
    LIMIT = "limit"  # the person has signed in too often since


class SignIn(Struct, frozen=True, kw_only=True):
    """A family of refresh tokens: one sign-in of one person on one device.

    `refresh_hash` is the hash of the token that is valid, `previous_hash` that of its predecessor. `successor` is the
    valid token, sealed with a key that only the predecessor gives.
    """

    id: str
    person: str
    family_hash: str
    refresh_hash: str
    previous_hash: str | None = None
    successor: str | None = None
    rotated_at: int | None = None
    created_at: int
    last_used_at: int
    expires_at: int
    address: str
    agent: str
    revoked_at: int | None = None
    reason: RevokeReason | None = None


class Rotation(Struct, frozen=True, kw_only=True):
    """The exchange of a sign-in's refresh token for its successor. The fields are those of `SignIn` afterwards."""

    previous_hash: str
    refresh_hash: str
    successor: str
    rotated_at: int
    expires_at: int


class ApiToken(Struct, frozen=True, kw_only=True):
    """A token for programs. `kind` is its letter: `p` personal, `s` signal feed. `scopes` are separated by spaces."""

    id: str
    person: str
    kind: str
    name: str
    prefix: str  # its first characters, by which its owner knows it
    hash: str  # hex SHA-256
    scopes: str
    created_at: int
    expires_at: int
    last_used_at: int | None = None


class SigningKey(Struct, frozen=True, kw_only=True):
    """A key pair that signs access tokens. After `retired_at` it signs nothing, until `expires_at` it verifies."""

    kid: str
    number: int  # 1, 2, 3 …: the highest one signs
    sealed: str  # the private key, sealed with the token key; the public one follows from it
    created_at: int
    retired_at: int | None = None
    expires_at: int | None = None


class MasterKey(Struct, frozen=True, kw_only=True):
    """A master key that data keys may be sealed with. `check_value` opens with the right one only."""

    id: str
    check_value: str
    created_at: int


class DataKey(Struct, frozen=True, kw_only=True):
    """The key that encrypts one person's secrets, sealed with the master key `kek_id`."""

    person: str
    kek_id: str
    sealed: str
    created_at: int
