"""The migrations of the run store's tables; Alembic runs them when AutoFlow starts."""
