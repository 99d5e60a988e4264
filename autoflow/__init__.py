"""AutoFlow runs workflows of Jupyter notebooks for each new date of data that FlowAPI has."""

__version__ = "0.1.0"
"""The version, which pyproject.toml and the Dockerfile repeat."""
