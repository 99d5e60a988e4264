"""Workflows as Prefect flows, and the runner that executes them."""

from autoflow.workflows.flow import make_notebooks_workflow
from autoflow.workflows.runner import WorkflowRunner

__all__ = ["WorkflowRunner", "make_notebooks_workflow"]
