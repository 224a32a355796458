"""Create the tables of candles, candle gaps, seals and trade cursors.

On PostgreSQL, candles have a partition for each year, created by `services.adapters.sql.partitions`, and a default one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

EXACT = sa.Numeric().with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Forward."""
    _candles()
    _holes()
    _seals()
    _cursors()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE candles_rest PARTITION OF candles DEFAULT")


def _candles() -> None:
    op.create_table(
        "candles",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("open", EXACT, nullable=False),
        sa.Column("high", EXACT, nullable=False),
        sa.Column("low", EXACT, nullable=False),
        sa.Column("close", EXACT, nullable=False),
        sa.Column("volume", EXACT, nullable=False),
        sa.Column("quote_volume", EXACT, nullable=False),
        sa.Column("trades", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "exchange",
            "symbol",
            "timeframe",
            "timestamp",
            name=op.f("pk_candles"),
            postgresql_include=[
                *("open", "high", "low", "close", "volume", "quote_volume", "trades", "closed", "source", "revision")
            ],
        ),
        postgresql_partition_by="RANGE (timestamp)",
        sqlite_with_rowid=False,
    )


def _holes() -> None:
    op.create_table(
        "holes",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("noticed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("exchange", "symbol", "timeframe", "since", "until", name=op.f("pk_holes")),
    )
    op.create_index(op.f("ix_holes_state"), "holes", ["state"])


def _seals() -> None:
    op.create_table(
        "seals",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("candles", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "symbol", "timeframe", "day", "revision", name=op.f("pk_seals")),
    )


def _cursors() -> None:
    op.create_table(
        "cursors",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "symbol", "timeframe", name=op.f("pk_cursors")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("cursors")
    op.drop_table("seals")
    op.drop_table("holes")
    op.drop_table("candles")
