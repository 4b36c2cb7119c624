"""Run by alembic: the connection comes from :func:`sunmesh.database.migrations.migrate`."""

from alembic import context

from sunmesh.database.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
