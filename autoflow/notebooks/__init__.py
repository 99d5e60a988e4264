"""Notebooks: read, executed, and written without secrets."""
