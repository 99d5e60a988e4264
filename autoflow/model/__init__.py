"""The run store: which workflow has run for which date, with which result."""

from autoflow.model.store import RunStore
from autoflow.runs.records import Claim, History, RunError, RunKey, RunRecord, RunState

__all__ = ["Claim", "History", "RunError", "RunKey", "RunRecord", "RunState", "RunStore"]
