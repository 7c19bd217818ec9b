"""Alembic's entry: runs the revisions on the connection that ``migrate`` hands over. Not run by hand."""

from alembic import context

from audit.log import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
