"""Create the tables of rates and feed gaps."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "rates",
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("direction", name=op.f("pk_rates")),
    )
    op.create_table(
        "gaps",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "instrument", "since", "until", name=op.f("pk_gaps")),
    )
    op.create_index(op.f("ix_gaps_until"), "gaps", ["until"])


def downgrade() -> None:
    """Back."""
    op.drop_table("gaps")
    op.drop_table("rates")
