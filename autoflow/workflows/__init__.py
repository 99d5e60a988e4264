"""Workflows as Prefect flows, and the runner that executes them."""

from typing import TYPE_CHECKING, Any

from autoflow.workflows.runner import WorkflowRunner

if TYPE_CHECKING:
    from autoflow.workflows.flow import make_notebooks_workflow

__all__ = ["WorkflowRunner", "make_notebooks_workflow"]


def __getattr__(name: str) -> Any:
    if name != "make_notebooks_workflow":
        raise AttributeError(name)
    # This imports Prefect, which no run needs.
    from autoflow.workflows.flow import make_notebooks_workflow  # noqa: PLC0415 - see above

    return make_notebooks_workflow
