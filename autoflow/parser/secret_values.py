"""Refuse secrets in the parameters of workflows: they would be stored in databases, and shown."""

from collections.abc import Iterable, Mapping

from autoflow.errors import AutoflowError
from autoflow.notebooks.redaction import Redaction
from autoflow.specs import Json

REFUSAL = (
    "it contains the token or another of AutoFlow's secrets, which would be stored and shown; remove it "
    "(notebooks have the token in the environment variable FLOWAPI_TOKEN)"
)


def check_for_secrets(parameters: Mapping[str, Json], secrets: Iterable[str]) -> None:
    """Raise AutoflowError, with the name of the parameter, if there is one of `secrets` in a parameter."""
    redaction = Redaction(secrets)
    for name, value in parameters.items():
        if redaction.is_in({name: value}):
            raise AutoflowError(f"parameter '{redaction.of_text(name)}': {REFUSAL}")
