"""Grants in PostgreSQL: a role for each service, with the permissions on tables that it needs.

`migrate` creates the roles and grants the permissions as the owner of the schema. Partitions need no grants, because
only migrations name them.
"""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import pbkdf2_hmac, sha256
from hmac import digest

from sqlalchemy import Connection, text

from services.core.errors import Misconfigured

READ_AND_WRITE = "SELECT, INSERT, UPDATE, DELETE"
READ = "SELECT"
COMMON_GRANTS = {"alembic_version": READ, "market": READ}
GRANTS: Mapping[str, Mapping[str, str]] = {
    "pricer": {"rates": READ},
    "writer": {
        **dict.fromkeys(("candles", "holes", "seals", "cursors", "dead_letters"), READ_AND_WRITE),
        "rates": "SELECT, INSERT, UPDATE",
        "gaps": "SELECT, INSERT",
        **dict.fromkeys(("indicators", "analysis"), "SELECT, DELETE"),  # it deletes those of deleted candles
        "audit": READ,  # `kurs verify` checks it
    },
    "analyst": {"candles": READ, **dict.fromkeys(("indicators", "analysis"), READ_AND_WRITE)},
    "accounts": {
        **dict.fromkeys(("data_keys", "master_keys", "tasks"), READ_AND_WRITE),
        "trading_rules": "SELECT, INSERT, UPDATE",
        "audit": "SELECT, INSERT, DELETE",  # it deletes old entries, and those of people that ended long ago
        **dict.fromkeys(("invitations", "sign_ins", "api_tokens"), "SELECT, DELETE"),
        "persons": READ,
    },
    "api": {
        **dict.fromkeys(("candles", "holes", "gaps", "rates", "analysis", "trading_rules"), READ),
        "dead_letters": "SELECT (id)",  # to count them
        # A person's data key is deleted by the database, with the person: that needs no right on it.
        **dict.fromkeys(("persons", "invitations", "sign_ins", "api_tokens", "signing_keys"), READ_AND_WRITE),
        "audit": "SELECT, INSERT",
        "tasks": "SELECT, INSERT, UPDATE",
    },
}
SCRAM_ITERATIONS = 4096  # PostgreSQL's default


def role_name(service: str) -> str:
    """Return the name of a service's role."""
    return f"kurs_{service}"


def verifier(password: str, salt: bytes) -> str:
    """Return PostgreSQL's SCRAM verifier of an ASCII password (RFC 5802), so that the password is never sent."""
    salted = pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = sha256(digest(salted, b"Client Key", "sha256")).digest()
    encoded = (b64encode(each).decode() for each in (salt, stored, digest(salted, b"Server Key", "sha256")))
    return "SCRAM-SHA-256${}:{}${}:{}".format(SCRAM_ITERATIONS, *encoded)


def grant(connection: Connection, passwords: Mapping[str, str]) -> None:
    """Create a role for each of these services, with its password (or verifier) and its permissions in this schema.

    Permissions that an earlier version granted are revoked. Raises Misconfigured for a service without a role.
    """
    if unknown := passwords.keys() - GRANTS.keys():
        raise Misconfigured(f"KURS_DATABASE_ROLES: {min(unknown)} has no role; there are {', '.join(GRANTS)}")
    if not passwords:
        return
    quote = connection.dialect.identifier_preparer.quote
    schema = quote(connection.dialect.default_schema_name or "public")
    for statement in (
        f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
        f"REVOKE TEMPORARY ON DATABASE {quote(str(connection.engine.url.database))} FROM PUBLIC",
    ):
        connection.execute(text(statement))
    for service, password in passwords.items():
        name = role_name(service)
        if connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name}).first() is None:
            connection.execute(text(f"CREATE ROLE {name}"))
        quoted = connection.scalar(text("SELECT quote_literal(CAST(:password AS text))"), {"password": password})
        connection.exec_driver_sql(f"ALTER ROLE {name} LOGIN PASSWORD {quoted}")
        connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {name}"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {name}"))
        for table, rights in {**COMMON_GRANTS, **GRANTS[service]}.items():
            connection.execute(text(f"GRANT {rights} ON {table} TO {name}"))
