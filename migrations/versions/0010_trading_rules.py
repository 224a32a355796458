"""Create the table of trading rules."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

EXACT = sa.Numeric().with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "trading_rules",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("trading", sa.Boolean(), nullable=False),
        sa.Column("tick_size", EXACT, nullable=False),
        sa.Column("step_size", EXACT, nullable=False),
        sa.Column("min_size", EXACT, nullable=False),
        sa.Column("min_notional", EXACT, nullable=True),
        sa.Column("maker_fee", EXACT, nullable=True),
        sa.Column("taker_fee", EXACT, nullable=True),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "symbol", name=op.f("pk_trading_rules")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("trading_rules")
