"""Measurements; README.md says how to read them."""
