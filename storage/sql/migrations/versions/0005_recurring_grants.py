"""Grants that are given again every so many months."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add how often a grant recurs; those there are were given once."""
    op.add_column("grants", sa.Column("every_months", sa.BigInteger, nullable=True))
    op.add_column("grants", sa.Column("anchor", sa.Text, nullable=True))
