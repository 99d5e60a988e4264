"""How the tables of the run store came to be, step by step; Alembic runs the steps at the start."""
