"""Run the migrations on the connection that the run store passes to Alembic."""

from alembic import context

from autoflow.model.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
