"""Queries that FlowKit never finishes: the error of the notebook says what to do."""

from contextlib import closing

import flowclient
import pytest
from flowclient.errors import FlowclientConnectionError

from autoflow.notebooks.hints import with_hint
from examples.flowapi import ExampleFlowApi
from tests.notebooks.running import Runner

QUERY = """
import flowclient
connection = flowclient.connect(url={url!r}, token={token!r})
where = {{"aggregation_unit": "admin2", "method": "last", "event_types": ["calls"]}}
query = flowclient.flows(
    connection=connection,
    from_location=flowclient.modal_location_from_dates_spec(start_date="2016-01-01", end_date="2016-01-08", **where),
    to_location=flowclient.daily_location_spec(date="2016-01-08", **where),
)
query.run()
"""


def test_error_of_an_errored_query_says_how_to_reset_it(run: Runner) -> None:
    with ExampleFlowApi() as api:
        api.misbehave("errored", route="run")
        code = QUERY.format(url=api.url, token=api.token())
        ran = run(code, "query.get_result()")
        cell, error_class, message = ran.failure()
    assert (cell, error_class) == (2, "FlowclientConnectionError")
    assert "status 'errored'" in message
    assert "remembers this query as errored" in message
    assert "Redis" in message


def test_timeout_of_a_notebook_whose_query_stays_executing_says_how_to_reset_it(run: Runner) -> None:
    with ExampleFlowApi(executing_seconds=3600) as api:
        code = QUERY.format(url=api.url, token=api.token())
        # The kernel and the first cell may take longer than that where the machine is busy.
        for timeout in (5, 20, 80):
            cell, error_class, message = run(code, "query.get_result()", timeout=timeout).failure()
            if cell == 2:
                break
    assert (cell, error_class) == (2, "Timeout")
    assert f"longer than {timeout} s" in message
    assert "stays 'executing'" in message
    assert "Redis" in message


@pytest.mark.parametrize(
    "message",
    [
        "Something went wrong: . API returned with status code: 500 and status 'errored'",
        "Query with id '1a2b' finished with an error.",
        "the query 1a2b has errored",
    ],
)
def test_each_text_about_an_errored_query_is_recognised(message: str) -> None:
    hinted = with_hint("RuntimeError", f"{message}\nmore", [])
    assert hinted.startswith(f"{message} (FlowMachine remembers")
    assert hinted.endswith("\nmore")


@pytest.mark.filterwarnings("ignore:Communications with this server are NOT SECURE")
def test_error_of_a_query_over_no_days_says_which_notebooks_need_half_open_intervals() -> None:
    no_days = flowclient.modal_location_from_dates_spec(
        start_date="2016-01-01", end_date="2016-01-01", aggregation_unit="admin2", method="last"
    )
    with ExampleFlowApi() as api:
        connection = flowclient.connect(url=api.url, token=api.token())
        with closing(connection.session), pytest.raises(FlowclientConnectionError) as raised:
            flowclient.spatial_aggregate(connection=connection, locations=no_days).run()
    message = str(raised.value)
    hinted = with_hint("FlowclientConnectionError", message, [])
    assert hinted.startswith(f"{message} (FlowAPI refuses a query over no days")
    assert "needs 'interval_ends: excluded' in workflows.yml" in hinted


def test_an_error_that_an_errored_query_has_caused_says_how_to_reset_it(run: Runner) -> None:
    ran = run("""
        class FlowclientConnectionError(Exception): pass
        try:
            raise FlowclientConnectionError("Something went wrong: . API returned with status 'errored'")
        except Exception as error:
            raise RuntimeError('no flows for the north') from error
    """)
    _, error_class, message = ran.failure()
    assert error_class == "RuntimeError"
    assert message.startswith("no flows for the north (FlowMachine remembers this query as errored")


def test_code_in_a_traceback_that_names_the_state_gets_no_hint(run: Runner) -> None:
    _, _, message = run("1 / 0  # or raise ValueError: status 'errored'").failure()
    assert message == "division by zero"


def test_a_long_error_leaves_room_for_the_hint_wherever_it_names_the_state() -> None:
    hinted = with_hint("RuntimeError", f"{'x ' * 20_000}and status 'errored'", [])
    assert "FlowMachine remembers" in hinted[:500]
    hinted = with_hint("RuntimeError", f"{'x ' * 20_000}\nQuery with id '1a2b' finished with an error", [])
    assert "FlowMachine remembers" in hinted[:500]


@pytest.mark.parametrize(
    ("error_class", "message"),
    [("ValueError", "division by zero"), ("Timeout", "the notebook took longer than 1 s"), ("E", "the job errored")],
)
def test_other_errors_have_no_hint(error_class: str, message: str) -> None:
    assert with_hint(error_class, message, ["import pandas"]) == message
