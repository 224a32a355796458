"""Create the tables of indicator values and analyses."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

EXACT = sa.Numeric().with_variant(sa.Text(), "sqlite")
JSON = JSONB().with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "indicators",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.Text(), nullable=False),
        sa.Column("indicator_name", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", JSON, nullable=False),
        sa.PrimaryKeyConstraint(
            *("exchange", "symbol", "timeframe", "timestamp", "indicator_name"), name=op.f("pk_indicators")
        ),
    )
    op.create_table(
        "analysis",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("close", EXACT, nullable=False),
        sa.Column("candles", sa.Integer(), nullable=False),
        sa.Column("trend", sa.Text(), nullable=False),
        sa.Column("strength", sa.Integer(), nullable=False),
        sa.Column("votes", JSON, nullable=False),
        sa.Column("signals", JSON, nullable=False),
        sa.Column("support_levels", JSON, nullable=False),
        sa.Column("resistance_levels", JSON, nullable=False),
        sa.Column("fibonacci_levels", JSON, nullable=False),
        sa.Column("pivot_levels", JSON, nullable=False),
        sa.Column("volatility", JSON, nullable=False),
        sa.Column("notes", JSON, nullable=False),
        sa.PrimaryKeyConstraint("exchange", "symbol", "timeframe", "timestamp", name=op.f("pk_analysis")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("analysis")
    op.drop_table("indicators")
