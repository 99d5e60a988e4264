"""The run store: which workflow was run for which date, and how each run ended."""

from autoflow.model.store import RunStore
from autoflow.runs.records import Claim, History, RunError, RunKey, RunRecord, RunState, WorkflowKey

__all__ = ["Claim", "History", "RunError", "RunKey", "RunRecord", "RunState", "RunStore", "WorkflowKey"]
