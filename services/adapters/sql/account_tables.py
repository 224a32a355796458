"""The tables of people, their credentials, the audit log and tasks, each with the fields of its struct.

Ids are texts, times milliseconds since the epoch.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text

from services.adapters.sql.tables import metadata


def _person(primary_key: bool = False, nullable: bool = False) -> Column[str]:
    """A column that refers to a person; the row is deleted with the person."""
    return Column(
        "person", Text, ForeignKey("persons.id", ondelete="CASCADE"), primary_key=primary_key, nullable=nullable
    )


persons = Table(
    "persons",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("password_changed_at", BigInteger, nullable=False),
)

invitations = Table(
    "invitations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("code_hash", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_by", Text),
    Column("used_at", BigInteger),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("id", Text, primary_key=True),
    _person(),
    Column("family_hash", Text, nullable=False, unique=True),
    Column("refresh_hash", Text, nullable=False, unique=True),
    Column("previous_hash", Text),
    Column("successor", Text),
    Column("rotated_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("address", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("revoked_at", BigInteger),
    Column("reason", Text),
    Index(None, "person"),
    Index(None, "expires_at"),  # old ones are deleted
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    _person(),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Index(None, "person"),
    Index(None, "expires_at"),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),  # of two replicas that make the next one, one succeeds
    Column("sealed", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("retired_at", BigInteger),
    Column("expires_at", BigInteger),
)

master_keys = Table(
    "master_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("check_value", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

data_keys = Table(
    "data_keys",
    metadata,
    _person(primary_key=True),
    # a master key that a data key needs cannot be deleted
    Column("kek_id", Text, ForeignKey("master_keys.id"), nullable=False),
    Column("sealed", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "kek_id"),
)

# AuditEntry. It outlives the persons that it names, so it does not refer to them.
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON as it was hashed
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Index(None, "actor", "seq"),
    Index(None, "subject", "seq"),
    Index(None, "at"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("queue", Text, nullable=False),
    _person(nullable=True),
    Column("arguments", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("queued_at", BigInteger),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("worker", Text),
    Column("heartbeat", BigInteger, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("progress", Integer),
    Column("error", Text),
    Column("result", Text),
    Column("outside_ms", BigInteger, nullable=False),
    Column("slot", Text, unique=True),
    Column("revision", BigInteger, nullable=False),
    Index(None, "state", "due"),
    Index(None, "person", "id"),
    Index(None, "finished_at"),  # old ones are deleted
)
