"""Benchmarks; README.md explains their output."""
