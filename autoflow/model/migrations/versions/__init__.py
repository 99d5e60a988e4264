"""Migrations of the tables, oldest first, one per file. A released migration is never changed."""
