"""A small FlowAPI with the data of an invented country, for the example and for tests."""

from examples.flowapi.misbehaviour import Misbehaviour
from examples.flowapi.server import ExampleFlowApi, first_dates
from examples.flowapi.tokens import EXAMPLE_SCOPES, flows_scopes

__all__ = ["EXAMPLE_SCOPES", "ExampleFlowApi", "Misbehaviour", "first_dates", "flows_scopes"]
