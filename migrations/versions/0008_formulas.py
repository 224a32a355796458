"""Rows of indicators and analyses by other formulas go: the analyst makes those of the newest candles again.

`psar` was TA-Lib's, a market without movement had values and a trend, and pivot points were made of parts of a period.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    _drop()


def downgrade() -> None:
    """Back."""
    _drop()


def _drop() -> None:
    for table in ("indicators", "analysis"):
        op.execute(f"DELETE FROM {table}")  # noqa: S608  our own names
