"""The example FlowAPI answers like the real one, byte for byte; its counts are verified here."""

import csv
import datetime
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import flowclient
import httpx
import pytest
from flowclient.aggregates import flows_spec, spatial_aggregate_spec
from flowclient.errors import FlowclientConnectionError

from examples.flowapi import EXAMPLE_SCOPES, ExampleFlowApi, first_dates, flows_scopes
from tests.waiting import LONG

pytestmark = pytest.mark.filterwarnings("ignore:Communications with this server are NOT SECURE")

REPOSITORY = Path(__file__).parents[1]
CALLS = ["calls"]


@pytest.fixture(scope="module")
def shared_api() -> Iterator[ExampleFlowApi]:
    with ExampleFlowApi(seconds_per_byte=0.05) as running:
        yield running


@pytest.fixture
def api(shared_api: ExampleFlowApi) -> Iterator[ExampleFlowApi]:
    yield shared_api
    shared_api.behave()


@pytest.fixture
def client(api: ExampleFlowApi) -> Iterator[httpx.Client]:
    with client_of(api) as connected:
        yield connected


@pytest.fixture
def connection(api: ExampleFlowApi) -> Iterator[flowclient.Connection]:
    connected = flowclient.connect(url=api.url, token=api.token())
    yield connected
    connected.session.close()


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def client_of(api: ExampleFlowApi, token: str | None = None, *, timeout: float = LONG) -> httpx.Client:
    headers = {"Authorization": f"Bearer {api.token() if token is None else token}"}
    return httpx.Client(base_url=f"{api.url}/api/0/", headers=headers, timeout=timeout)


def daily(date: str = "2016-01-12", unit: str = "admin2", method: str = "last", **more: object) -> dict[str, Any]:
    spec: dict[str, Any] = flowclient.daily_location_spec(date=date, aggregation_unit=unit, method=method, **more)
    return spec


def modal(end: str = "2016-01-08", unit: str = "admin2", method: str = "last") -> dict[str, Any]:
    spec: dict[str, Any] = flowclient.modal_location_from_dates_spec(
        start_date="2016-01-01", end_date=end, aggregation_unit=unit, method=method, event_types=CALLS
    )
    return spec


def flows(**more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = flows_spec(from_location=modal(), to_location=daily(event_types=CALLS, **more))
    return spec


def run(client: httpx.Client, spec: dict[str, Any]) -> str:
    answer = client.post("run", json=spec)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["query_id"])


# Available dates


def test_available_dates_are_compact_json_with_sorted_keys(client: httpx.Client) -> None:
    answer = client.get("available_dates")
    days = ",".join(f'"2016-01-{day:02}"' for day in range(1, 13))
    odd_days = ",".join(f'"2016-01-{day:02}"' for day in range(1, 13, 2))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.text == (
        f'{{"available_dates":{{"calls":[{days}],"mds":[{days}],"sms":[{days}],"topups":[{odd_days}]}}}}'
    )


def test_a_date_can_be_added_and_removed_while_it_runs() -> None:
    with ExampleFlowApi(first_dates(1)) as api, client_of(api) as client:
        api.add_date("2016-02-01", cdr_types=["sms"])
        assert client.get("available_dates").json()["available_dates"]["sms"] == ["2016-01-01", "2016-02-01"]
        api.remove_date(datetime.date(2016, 2, 1))
        assert client.get("available_dates").json()["available_dates"]["sms"] == ["2016-01-01"]


def test_a_type_without_dates_is_absent() -> None:
    with ExampleFlowApi([]) as api, client_of(api) as client:
        api.add_date("2016-01-01", cdr_types=CALLS)
        assert client.get("available_dates").json() == {"available_dates": {"calls": ["2016-01-01"]}}
        api.remove_date("2016-01-01")
        assert client.get("available_dates").json() == {"available_dates": {}}


def test_available_dates_are_cached_for_as_long_as_asked() -> None:
    clock = Clock()
    with ExampleFlowApi([], cache_seconds=120, clock=clock) as api, client_of(api) as client:
        client.get("available_dates")
        api.add_date("2016-01-01", cdr_types=CALLS)
        clock.seconds = 119
        assert client.get("available_dates").json() == {"available_dates": {}}
        clock.seconds = 120
        assert client.get("available_dates").json() == {"available_dates": {"calls": ["2016-01-01"]}}


# Running a query


def test_run_tells_the_query_id_and_where_to_poll(client: httpx.Client) -> None:
    answer = client.post("run", json=flows())
    query_id = answer.json()["query_id"]
    assert answer.status_code == 202
    assert re.fullmatch("[0-9a-f]{32}", query_id)
    assert answer.headers["location"] == f"/api/0/poll/{query_id}"
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == f'{{"progress":{{"eligible":0,"queued":0,"running":0}},"query_id":"{query_id}"}}'


def test_query_id_depends_on_nothing_but_the_parameters(client: httpx.Client) -> None:
    with ExampleFlowApi() as other, client_of(other) as client_of_other:
        assert run(client, flows()) == run(client_of_other, flows())
        assert run(client, flows()) != run(client, flows(date="2016-01-11"))


def test_a_query_is_queued_then_executes_then_is_completed() -> None:
    clock = Clock()
    with ExampleFlowApi(queued_seconds=1, executing_seconds=2, clock=clock) as api, client_of(api) as client:
        query_id = run(client, flows())
        queued = client.get(f"poll/{query_id}")
        assert queued.status_code == 202
        assert queued.text == '{"msg":"","progress":{"eligible":10,"queued":5,"running":5},"status":"queued"}'
        clock.seconds = 1
        executing = client.get(f"poll/{query_id}")
        assert executing.status_code == 202
        assert executing.text == '{"msg":"","progress":{"eligible":5,"queued":0,"running":5},"status":"executing"}'
        unfinished = client.get(f"get/{query_id}")
        assert (unfinished.status_code, unfinished.text) == (202, "{}")
        clock.seconds = 3
        completed = client.get(f"poll/{query_id}")
        assert (completed.status_code, completed.text) == (303, '{"status":"completed"}')
        assert completed.headers["location"] == f"/api/0/get/{query_id}"


def test_an_errored_query_stays_errored_when_run_again(api: ExampleFlowApi, client: httpx.Client) -> None:
    api.misbehave("errored", route="run", times=1)
    query_id = run(client, flows(date="2016-01-02"))
    assert run(client, flows(date="2016-01-02")) == query_id
    poll, get = client.get(f"poll/{query_id}"), client.get(f"get/{query_id}")
    assert (poll.status_code, poll.text) == (500, '{"msg":"","status":"errored"}')
    assert get.status_code == 403
    assert get.text == f'{{"msg":"Query with id \'{query_id}\' finished with an error.","status":"Error"}}'


def test_a_lost_query_is_known_until_it_is_run_again(api: ExampleFlowApi, client: httpx.Client) -> None:
    query_id = run(client, flows())
    api.lose_queries()
    poll, get = client.get(f"poll/{query_id}"), client.get(f"get/{query_id}")
    assert (poll.status_code, poll.text) == (404, '{"msg":"","status":"known"}')
    assert get.status_code == 404
    assert get.text == f'{{"msg":"Query with id \'{query_id}\' is known, but has not yet been run.","status":"Error"}}'
    run(client, flows())
    assert client.get(f"poll/{query_id}").status_code == 303


# Results


def test_a_result_is_streamed_with_a_comma_and_a_space_between_rows(client: httpx.Client) -> None:
    query_id = run(client, flows())
    answer = client.get(f"get/{query_id}")
    row = r'\{"pcod_from":"VM \d \d\d","pcod_to":"VM \d \d\d","value":\d+\}'
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == f"attachment;filename={query_id}.json"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers
    assert re.fullmatch(rf'\{{"query_id":"{query_id}", "query_result":\[{row}(, {row})+\]\}}', answer.text)
    assert client.get(f"get/{query_id}.json").content == answer.content


def test_a_result_can_be_had_as_csv(client: httpx.Client) -> None:
    query_id = run(client, flows())
    answer = client.get(f"get/{query_id}.csv")
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["content-disposition"] == f"attachment;filename={query_id}.csv"
    assert answer.text.startswith("pcod_from,pcod_to,value\r\n")
    rows = [{**row, "value": int(row["value"])} for row in csv.DictReader(answer.text.splitlines())]
    assert rows == client.get(f"get/{query_id}").json()["query_result"]


def test_a_result_can_be_had_as_geojson(client: httpx.Client) -> None:
    query_id = run(client, flows())
    answer = client.get(f"get/{query_id}.geojson")
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.headers["content-disposition"] == f"attachment;filename={query_id}.geojson"
    assert answer.text.startswith('{"type":"FeatureCollection", "features":[{"type":"Feature","id":')
    rows = client.get(f"get/{query_id}").json()["query_result"]
    from_features = {
        (feature["properties"]["pcod"], pcod_to, value)
        for feature in answer.json()["features"]
        for pcod_to, value in feature["properties"]["outflows"].items()
    }
    assert from_features == {tuple(row.values()) for row in rows}
    assert list(answer.json()["features"][0]["properties"]) == ["pcod", "outflows", "inflows", "centroid"]


def test_an_unknown_format_is_refused(client: httpx.Client) -> None:
    answer = client.get(f"get/{run(client, flows())}.xml")
    assert (answer.status_code, answer.text) == (400, '{"msg":"Invalid file format","status":"error"}')


def test_an_empty_result_has_no_rows(connection: flowclient.Connection, client: httpx.Client) -> None:
    few = {**flows(), "to_location": daily("2016-01-11", event_types=["topups"], hours=(3, 4))}
    query_id = run(client, few)
    assert client.get(f"get/{query_id}").text == f'{{"query_id":"{query_id}", "query_result":[]}}'
    assert flowclient.get_result(connection=connection, query_spec=few).shape == (0, 0)


def test_rows_are_not_sorted(client: httpx.Client) -> None:
    rows = client.get(f"get/{run(client, flows())}").json()["query_result"]
    assert rows != sorted(rows, key=lambda row: (row["pcod_from"], row["pcod_to"]))


# What the numbers mean


Visits = Callable[[str], Mapping[int, list[int]]]


@pytest.fixture(scope="module")
def visits(shared_api: ExampleFlowApi) -> Visits:
    """Return a function that returns the wards from which each subscriber called on a date, one after the other."""

    @cache
    def of_day(date: str) -> Mapping[int, list[int]]:
        events = shared_api.dataset.records.events(datetime.date.fromisoformat(date), "calls")
        visited: dict[int, list[int]] = {}
        for subscriber, _, ward in sorted(
            zip(*(a.tolist() for a in vars(events).values()), strict=True), key=lambda e: e[1]
        ):
            visited.setdefault(subscriber, []).append(ward)
        return visited

    return of_day


def locations_of_day(api: ExampleFlowApi, visits: Visits, date: str, unit: str, method: str) -> dict[int, str]:
    """Where each subscriber was, worked out one event after the other."""
    country = api.dataset.country
    names = [country.regions[unit][region].pcod for region in country.ward_regions[unit]]
    visited = {subscriber: [names[ward] for ward in wards] for subscriber, wards in visits(date).items()}
    if method == "last":
        return {subscriber: pcods[-1] for subscriber, pcods in visited.items()}
    return {
        subscriber: min(set(pcods), key=lambda pcod: (-pcods.count(pcod), pcod))
        for subscriber, pcods in visited.items()
    }


def modal_locations(api: ExampleFlowApi, visits: Visits, days: int, unit: str, method: str) -> dict[int, str]:
    by_day = [locations_of_day(api, visits, f"2016-01-{day:02}", unit, method) for day in range(1, days + 1)]
    latest_first: dict[int, list[str]] = {}
    for located in reversed(by_day):
        for subscriber, pcod in located.items():
            latest_first.setdefault(subscriber, []).append(pcod)
    return {subscriber: Counter(pcods).most_common(1)[0][0] for subscriber, pcods in latest_first.items()}


@pytest.mark.parametrize("unit", ["admin0", "admin1", "admin2", "admin3"])
@pytest.mark.parametrize("method", ["last", "most-common"])
def test_flows_are_those_of_the_calls(api: ExampleFlowApi, visits: Visits, unit: str, method: str) -> None:
    spec = flows_spec(
        from_location=modal("2016-01-05", unit, method), to_location=daily(unit=unit, method=method, event_types=CALLS)
    )
    home = modal_locations(api, visits, 4, unit, method)
    there = locations_of_day(api, visits, "2016-01-12", unit, method)
    counted = Counter((home[subscriber], pcod) for subscriber, pcod in there.items() if subscriber in home)
    with client_of(api, api.token(scopes=flows_scopes(unit))) as client:
        rows = client.get(f"get/{run(client, spec)}").json()["query_result"]
    assert {(row["pcod_from"], row["pcod_to"]): row["value"] for row in rows} == {
        pair: count for pair, count in counted.items() if count > 15
    }
    assert any(count <= 15 for count in counted.values()) or unit in {"admin0", "admin1"}


def test_spatial_aggregates_are_those_of_the_calls(api: ExampleFlowApi, visits: Visits) -> None:
    scopes = {
        "run",
        "get_result",
        "admin3:spatial_aggregate:spatial_aggregate",
        "admin3:spatial_aggregate:daily_location",
    }
    counted = Counter(locations_of_day(api, visits, "2016-01-12", "admin3", "last").values())
    with client_of(api, api.token(scopes=scopes)) as client:
        query_id = run(client, spatial_aggregate_spec(locations=daily(unit="admin3", event_types=CALLS)))
        rows = client.get(f"get/{query_id}").json()["query_result"]
        features = client.get(f"get/{query_id}.geojson").json()["features"]
    expected = {pcod: count for pcod, count in counted.items() if count > 15}
    assert {row["pcod"]: row["value"] for row in rows} == expected
    assert {feature["properties"]["pcod"]: feature["properties"]["value"] for feature in features} == expected


def test_hours_bound_the_calls_that_count(api: ExampleFlowApi, client: httpx.Client) -> None:
    events = api.dataset.records.events(datetime.date(2016, 1, 12), "calls")
    in_time = (events.second >= 20 * 3600) & (events.second < 24 * 3600)
    evening, all_day = (
        sum(row["value"] for row in client.get(f"get/{run(client, spec)}").json()["query_result"])
        for spec in (flows(hours=(20, 24)), flows())
    )
    assert evening <= len(set(events.subscriber[in_time])) < all_day


def test_people_leave_the_districts_that_the_cyclone_hits(client: httpx.Client) -> None:
    def stayed(date: str) -> int:
        rows = client.get(f"get/{run(client, flows(date=date))}").json()["query_result"]
        return sum(row["value"] for row in rows if row["pcod_from"] == row["pcod_to"] == "VM 3 06")

    week = [stayed(f"2016-01-{day:02}") for day in (5, 9, 10, 11, 12)]
    assert week == sorted(week, reverse=True)
    assert week[-1] < 0.5 * week[0]


def test_data_are_the_same_each_time() -> None:
    results = []
    for _ in range(2):
        with ExampleFlowApi() as api, client_of(api) as client:
            results.append(client.get(f"get/{run(client, flows())}").content)
    assert results[0] == results[1]


# Geography


@pytest.mark.parametrize(
    ("unit", "pcod"), [("admin0", r"VM"), ("admin2", r"VM \d \d\d"), ("admin3", r"VM \d \d\d \d\d")]
)
def test_geography_is_a_streamed_feature_collection(api: ExampleFlowApi, unit: str, pcod: str) -> None:
    with client_of(api, api.token(scopes=flows_scopes(unit))) as client:
        answer = client.get(f"geography/{unit}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.headers["content-disposition"] == f"attachment;filename={unit}.geojson"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.text.startswith(
        '{"type":"FeatureCollection", "features":[{"type":"Feature","id":1,"geometry":{"type":"MultiPolygon",'
    )
    features = answer.json()["features"]
    assert [feature["id"] for feature in features] == list(range(1, len(features) + 1))
    assert all(list(feature["properties"]) == ["pcod", "centroid"] for feature in features)
    assert all(re.fullmatch(pcod, feature["properties"]["pcod"]) for feature in features)
    assert all(feature["properties"]["centroid"]["type"] == "Point" for feature in features)


def test_regions_nest_and_cover_the_same_country(api: ExampleFlowApi) -> None:
    regions = api.dataset.country.regions
    whole = regions["admin0"][0].shape
    for unit in ("admin1", "admin2", "admin3"):
        shapes = [region.shape for region in regions[unit]]
        assert all(shape.is_valid for shape in shapes)
        assert sum(shape.area for shape in shapes) == pytest.approx(whole.area, rel=1e-3)
    assert {region.pcod.rsplit(" ", 1)[0] for region in regions["admin3"]} == {r.pcod for r in regions["admin2"]}


def test_a_unit_that_does_not_exist_is_an_error(api: ExampleFlowApi) -> None:
    with client_of(api, api.token(scopes=flows_scopes("admin9"))) as client:
        answer = client.get("geography/admin9")
    assert (answer.status_code, answer.text) == (500, '{"msg":"Parameter validation failed.","status":"Error"}')


# Tokens


ROUTES = ["available_dates", "poll/0", "get/0", "geography/admin2"]


@pytest.mark.parametrize("route", ROUTES)
def test_a_request_without_token_is_refused(api: ExampleFlowApi, route: str) -> None:
    answer = httpx.get(f"{api.url}/api/0/{route}")
    assert (answer.status_code, answer.text) == (401, '{"msg":"Missing Authorization Header"}')


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer a b", "abc"])
def test_a_header_that_bears_no_token_is_refused(api: ExampleFlowApi, header: str) -> None:
    answer = httpx.get(f"{api.url}/api/0/available_dates", headers={"Authorization": header})
    assert answer.status_code == 422
    assert answer.text == '{"msg":"Bad Authorization header. Expected value \'Bearer <JWT>\'"}'


@pytest.mark.parametrize(
    ("make_token", "status", "message"),
    [
        (lambda _: "nonsense", 422, "Not enough segments"),
        (lambda api: api.token(forged=True), 422, "Signature verification failed"),
        (lambda api: api.token(datetime.timedelta(seconds=-1)), 401, "Token has expired"),
        (lambda api: api.token(scopes=[]), 403, "User claims verification failed"),
    ],
)
@pytest.mark.parametrize("route", ROUTES)
def test_a_bad_token_is_refused(
    api: ExampleFlowApi, route: str, make_token: Callable[[ExampleFlowApi], str], status: int, message: str
) -> None:
    with client_of(api, make_token(api)) as client:
        answer = client.get(route)
    assert (answer.status_code, answer.text) == (status, f'{{"msg":"{message}"}}')


@pytest.mark.parametrize("missing", sorted(EXAMPLE_SCOPES - {"get_available_dates", "admin2:geography:geography"}))
def test_flows_need_each_of_their_scopes(api: ExampleFlowApi, client: httpx.Client, missing: str) -> None:
    query_id = run(client, flows())
    with client_of(api, api.token(scopes=EXAMPLE_SCOPES - {missing})) as refused:
        statuses = [refused.post("run", json=flows()).status_code]
        statuses += [refused.get(f"{route}/{query_id}").status_code for route in ("poll", "get")]
    allowed = {"run": [403, 303, 200], "get_result": [202, 303, 403]}
    assert statuses == allowed.get(missing, [403, 403, 403])


def test_scopes_of_several_roles_do_not_add_up(api: ExampleFlowApi) -> None:
    roles = {
        "runner": EXAMPLE_SCOPES - {"admin2:flows:flows"},
        "reader": EXAMPLE_SCOPES - {"admin2:flows:daily_location"},
    }
    token = api.token_of_roles(dict(roles), expires_in=datetime.timedelta(hours=1))
    with client_of(api, token) as client:
        assert client.post("run", json=flows()).status_code == 403
    with client_of(
        api, api.token_of_roles({**roles, "both": EXAMPLE_SCOPES}, expires_in=datetime.timedelta(hours=1))
    ) as client:
        assert client.post("run", json=flows()).status_code == 202


def test_the_examples_token_allows_no_other_unit(client: httpx.Client) -> None:
    spec = flows_spec(from_location=modal(unit="admin3"), to_location=daily(unit="admin3"))
    assert client.post("run", json=spec).status_code == 403
    assert client.get("geography/admin3").status_code == 403


# Errors


@pytest.mark.parametrize("route", ["poll", "get"])
def test_an_unknown_query_id_is_not_found(client: httpx.Client, route: str) -> None:
    answer = client.get(f"{route}/82e34126183f1e86353096a8f82b1c60")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Unknown query ID '82e34126183f1e86353096a8f82b1c60'" in answer.text


@pytest.mark.parametrize("path", ["/api/0/nothing", "/api/0/available_dates/", "/api/1/available_dates", "/", "/api"])
def test_an_unknown_route_is_a_page(api: ExampleFlowApi, path: str) -> None:
    answer = httpx.get(api.url + path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_run_takes_post_only(client: httpx.Client) -> None:
    answer = client.get("run")
    assert answer.status_code == 405
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    "spec",
    [
        {"query_kind": "nonsense"},
        {"query_kind": "daily_location"},
        {"query_kind": "flows"},
        {**flows(), "join_type": "sideways"},
        {**flows(), "more": 1},
        flows(method="first"),
        flows(unit="admin9"),
        flows(unit="admin3"),
        flows(date="yesterday"),
        {**flows(), "to_location": daily(event_types=["letters"])},
        flows(hours=(5, 3)),
        flows(subscriber_subset="82e34126183f1e86353096a8f82b1c60"),
        {**flows(), "to_location": {"query_kind": "modal_location", "locations": None}},
        {**flows(), "to_location": {"query_kind": "modal_location", "locations": [{"query_kind": "flows"}]}},
    ],
)
def test_a_wrong_specification_fails_validation(client: httpx.Client, spec: dict[str, Any]) -> None:
    answer = client.post("run", json=spec)
    assert answer.status_code == 400
    assert list(answer.json()) == ["msg"]
    assert re.fullmatch(
        r"Parameter validation failed\.\n\nThe action parameters were:\n   \{.*\}\.\n\n"
        r"Validation error messages:\n   \{.*\}\.\n\n",
        answer.json()["msg"],
    )


def test_a_specification_without_kind_cannot_be_parsed(client: httpx.Client) -> None:
    answer = client.post("run", json={"a": 1})
    assert (answer.status_code, answer.text) == (400, '{"msg":"Could not parse query spec."}')


@pytest.mark.parametrize("end", ["2016-01-01", "2015-12-31"])
def test_a_range_without_a_day_cannot_be_parsed(client: httpx.Client, end: str) -> None:
    answer = client.post("run", json={**flows(), "from_location": modal(end)})
    assert (answer.status_code, answer.text) == (400, '{"msg":"Could not parse query spec."}')


def test_a_body_that_is_not_json_is_a_bad_request(client: httpx.Client) -> None:
    answer = client.post("run", content=b"{")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/html")
    assert "Bad Request" in answer.text


def test_a_date_without_data_is_told(client: httpx.Client) -> None:
    answer = client.post("run", json=flows(date="2017-03-01"))
    assert answer.status_code == 400
    assert answer.text == (
        '{"msg":"Unable to create query object.","payload":{"exception":'
        '"No data for date: 2017-03-01 00:00:00 - 2017-03-02 00:00:00"},"status":"Error"}'
    )


def test_a_date_without_topups_has_no_data_for_a_query_of_topups_alone(client: httpx.Client) -> None:
    assert client.post("run", json={**flows(), "to_location": daily(event_types=["topups"])}).status_code == 400
    assert client.post("run", json={**flows(), "to_location": daily()}).status_code == 202


# flowclient


def test_flowclient_gets_dates_results_and_geography(connection: flowclient.Connection) -> None:
    dates = flowclient.get_available_dates(connection=connection)
    result = flowclient.flows(connection=connection, from_location=modal(), to_location=daily()).get_result()
    geography = flowclient.get_geography(connection=connection, aggregation_unit="admin2")
    assert sorted(dates) == ["calls", "mds", "sms", "topups"]
    assert list(result.columns) == ["pcod_from", "pcod_to", "value"]
    assert result["value"].min() > 15
    assert set(result["pcod_to"]) <= {feature["properties"]["pcod"] for feature in geography["features"]}


def test_flowclient_runs_a_lost_query_again(api: ExampleFlowApi, connection: flowclient.Connection) -> None:
    query = flowclient.flows(connection=connection, from_location=modal(), to_location=daily())
    query.run()
    api.lose_queries()
    assert query.status == "not_running"
    assert not query.get_result().empty
    assert query.status == "completed"


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("down", FlowclientConnectionError, "Unable to connect to FlowKit API"),
        ("not-http", FlowclientConnectionError, "Unable to connect to FlowKit API"),
        ("401", FlowclientConnectionError, "Token has expired"),
        ("403", FlowclientConnectionError, "User claims verification failed"),
        ("404", FileNotFoundError, "not found"),
        ("422", FlowclientConnectionError, "Something went wrong: Signature verification failed"),
        ("500", FlowclientConnectionError, "Something went wrong"),
        ("html", ValueError, "Expecting value"),
        ("garbage", ValueError, "codec can't decode"),
        ("empty", ValueError, "Expecting value"),
    ],
)
def test_flowclient_meets_each_misbehaviour(
    api: ExampleFlowApi, connection: flowclient.Connection, how: str, error: type[Exception], message: str
) -> None:
    api.misbehave(how, times=1)
    with pytest.raises(error, match=message):
        flowclient.get_available_dates(connection=connection)
    assert flowclient.get_available_dates(connection=connection)


# Misbehaving


def test_a_hanging_request_is_never_answered(api: ExampleFlowApi) -> None:
    api.misbehave("hang")
    with client_of(api, timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
        client.get("available_dates")


def test_a_dripping_answer_is_slower_than_any_time_limit_between_bytes(api: ExampleFlowApi) -> None:
    api.misbehave("drip", route="available_dates", times=1)
    with client_of(api, timeout=LONG) as client, client.stream("GET", "available_dates") as answer:
        chunks = answer.iter_raw()
        assert [next(chunks) for _ in range(5)] == [b"{", b'"', b"a", b"v", b"a"]


def test_only_the_route_that_is_named_misbehaves(api: ExampleFlowApi, client: httpx.Client) -> None:
    api.misbehave("500", route="geography")
    assert client.get("available_dates").status_code == 200
    assert client.get("geography/admin2").status_code == 500
    api.behave()
    assert client.get("geography/admin2").status_code == 200


def test_misbehaviour_ends_after_so_many_requests(api: ExampleFlowApi, client: httpx.Client) -> None:
    api.misbehave("500", times=2)
    assert [client.get("available_dates").status_code for _ in range(3)] == [500, 500, 200]


def test_connections_are_refused_between_stop_and_start() -> None:
    api = ExampleFlowApi()
    with api, client_of(api) as client:
        url, token = api.url, api.token()
        query_id = run(client, flows())
        api.stop()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/api/0/available_dates")
        api.start()
        assert api.url == url
        with client_of(api, token) as again:
            assert again.get(f"poll/{query_id}").status_code == 303


def test_stop_does_not_wait_for_requests_that_hang() -> None:
    with ExampleFlowApi() as api:
        api.misbehave("hang")
        caught: list[Exception] = []

        def ask() -> None:
            try:
                httpx.get(f"{api.url}/api/0/available_dates", timeout=None)  # noqa: S113 - as flowclient does
            except httpx.TransportError as error:
                caught.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        while not api.requests:
            time.sleep(0.01)
    asking.join(timeout=LONG)
    assert not asking.is_alive()
    assert len(caught) == 1


def test_requests_are_remembered() -> None:
    with ExampleFlowApi() as api, client_of(api) as client:
        client.get("available_dates")
        client.post("run", json={})
        assert api.requests == [("GET", "/api/0/available_dates"), ("POST", "/api/0/run")]


def test_an_unknown_misbehaviour_is_an_error(api: ExampleFlowApi) -> None:
    with pytest.raises(ValueError, match="sulk"):
        api.misbehave("sulk")


# The control surface


def test_control_adds_and_removes_dates(api: ExampleFlowApi, client: httpx.Client) -> None:
    control = f"{api.url}/control/dates/2016-03-01?cdr_type=calls"
    assert "2016-03-01" in httpx.put(control).json()["available_dates"]["calls"]
    assert "2016-03-01" in client.get("available_dates").json()["available_dates"]["calls"]
    assert "2016-03-01" not in httpx.delete(control).json()["available_dates"]["calls"]


def test_control_misbehaves_and_behaves(api: ExampleFlowApi, client: httpx.Client) -> None:
    assert httpx.post(f"{api.url}/control/misbehave", json={"how": "500", "route": "poll"}).status_code == 200
    assert client.get("poll/0").status_code == 500
    httpx.delete(f"{api.url}/control/misbehave")
    assert client.get("poll/0").status_code == 404


def test_control_still_answers_when_all_of_the_api_is_down(api: ExampleFlowApi) -> None:
    api.misbehave("down")
    paths = httpx.get(f"{api.url}/control/requests").json()["requests"]
    assert paths == [list(request) for request in api.requests]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "misbehave", {"how": "sulk"}),
        ("POST", "misbehave", []),
        ("PUT", "dates/tomorrow", None),
        ("PUT", "dates/2016-01-01?cdr_type=letters", None),
    ],
)
def test_control_refuses_what_it_does_not_understand(api: ExampleFlowApi, method: str, path: str, body: object) -> None:
    assert httpx.request(method, f"{api.url}/control/{path}", json=body).status_code == 400


def test_control_loses_queries(api: ExampleFlowApi, client: httpx.Client) -> None:
    query_id = run(client, flows())
    httpx.delete(f"{api.url}/control/queries")
    assert client.get(f"poll/{query_id}").json()["status"] == "known"


# The program


def test_program_says_in_one_line_that_its_port_is_taken(api: ExampleFlowApi) -> None:
    command = [sys.executable, "-m", "examples.flowapi", "serve", "--port", api.url.rsplit(":", 1)[1]]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert re.fullmatch("python -m examples.flowapi: .*in use.*\n", ended.stderr)


def test_token_comes_from_the_server_at_flowapi_url(api: ExampleFlowApi) -> None:
    command = [sys.executable, "-m", "examples.flowapi", "token"]
    environ = {**os.environ, "FLOWAPI_URL": f"{api.url}/"}
    minted = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=True).stdout
    with client_of(api, minted.strip()) as client:
        assert client.get("available_dates").status_code == 200


def test_program_says_in_one_line_that_flowapi_url_is_invalid() -> None:
    command = [sys.executable, "-m", "examples.flowapi", "token"]
    environ = {**os.environ, "FLOWAPI_URL": "localhost"}
    ended = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert re.fullmatch("python -m examples.flowapi: unknown url type: .*localhost.*\n", ended.stderr)


def test_program_writes_url_and_token_and_ends_on_sigterm(tmp_path: Path) -> None:
    url_file, token_file = tmp_path / "url", tmp_path / "token"
    command = [sys.executable, "-m", "examples.flowapi"]
    options = ["serve", "--port", "0", "--dates", "3", "--url-file", str(url_file), "--token-file", str(token_file)]
    with subprocess.Popen([*command, *options], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            url, token = url_file.read_text(), token_file.read_text()
            assert line == f"The example FlowAPI is running at {url}\n"
            assert token_file.stat().st_mode & 0o077 == 0
            asked = [*command, "token", "--url", url, "--scope", "get_available_dates"]
            minted = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
            for good in (token, minted):
                answer = httpx.get(f"{url}/api/0/available_dates", headers={"Authorization": f"Bearer {good}"})
                assert answer.json()["available_dates"]["calls"] == ["2016-01-01", "2016-01-02", "2016-01-03"]
        finally:
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait(timeout=LONG) == 0
