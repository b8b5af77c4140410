"""What Alembic runs: the migrations, inside the transaction that was handed over."""

from __future__ import annotations

from alembic import context

from storage.sql.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
