"""Delete indicator values and analyses that older formulas computed. The analyst computes the newest again.

`psar` was TA-Lib's, a flat market had values and a trend, and pivot points were computed from parts of a period.
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
