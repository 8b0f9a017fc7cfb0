"""How Alembic runs the migrations: over the connection that `upgrade` hands in."""

from __future__ import annotations

from alembic import context

from ai_ledger.database.columns import metadata
from ai_ledger.database.tables import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # Only our own tables are looked at: the database may be the user's.
    include_name=lambda name, kind, _: kind != "table" or name in metadata.tables,
    transactional_ddl=False,
)
context.run_migrations()
