"""Metrics, as Prometheus scrapes them from a daemon; the dashboard and the alert rules in docs/."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from autoflow.errors import SettingsError
from autoflow.metrics import MOST_CLIENTS, STATUSES, serving_metrics
from autoflow.orchestration.prefect_api import free_port
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.receiver import Receiver
from tests.test_acceptance import environment, running
from tests.test_docs import names, page
from tests.waiting import LONG, wait_for

MONITORING = Path(__file__).resolve().parent.parent / "docs" / "operations" / "monitoring"
RULES = MONITORING / "autoflow-rules.yml"
DASHBOARD = json.loads((MONITORING / "autoflow-dashboard.json").read_text(encoding="utf-8"))
OF_PROMETHEUS = frozenset({"up"})
OF_CLUSTERS = "autoflow_cluster_"
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$job": "autoflow"}

JANUARY_12 = 1452556800

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]

WAITS = "import time\ntime.sleep(600)"

MIXED_DAY = """
workflows:
  - {name: good, notebooks: {maps: {filename: good.ipynb, parameters: {n: n}}}}
  - {name: broken, notebooks: {maps: {filename: broken.ipynb, parameters: {n: n}}}}
  - {name: slow, notebooks: {n: {filename: slow.ipynb}}}
available_dates_sensor:
  schedule: "* * * * * */3"
  workflows:
    - {workflow_name: good, label: north, parameters: {n: 1}, earliest_date: 2016-01-11, latest_date: 2016-01-12}
    - workflow_name: good
      label: late
      parameters: {n: 2}
      date_stencil: [[-1, 0]]
      earliest_date: 2016-01-14
      enough: 1
      wait: 1
    # They differ in a parameter alone, and are counted together.
    - {workflow_name: good, parameters: {n: 1}, every: week, latest_date: 2015-12-31}
    - {workflow_name: good, parameters: {n: 2}, every: week, latest_date: 2015-12-31}
    - workflow_name: broken
      label: hopeless
      parameters: {n: 1}
      earliest_date: 2016-01-12
      latest_date: 2016-01-12
      max_attempts: 1
    - workflow_name: broken
      label: chain
      parameters: {n: 2}
      earliest_date: 2016-01-11
      retry_delay: 3600
      after_previous: true
    - {workflow_name: slow, earliest_date: 2016-01-09, latest_date: 2016-01-12}
"""


def queries() -> list[str]:
    """Return the queries of the dashboard that do not need a cluster, with the values of its variables."""
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return [filled(text) for text in targets if OF_CLUSTERS not in text]


def rules() -> list[str]:
    """Return the queries of the alert rules."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return re.sub(r"\$\w+", ".*", query)


def names_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:autoflow_\w+|process_\w+|up)\b(?=[{\[ )]|$)", query))


def scraped(port: int) -> Samples:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """Return the only sample with this name and these labels, and perhaps others; None if there is none."""
    found = [
        number for (each, of_it), number in samples.items() if each == name and labels.items() <= dict(of_it).items()
    ]
    assert len(found) < 2, (name, labels, found)
    return found[0] if found else None


def write_mixed_day(deployed: Deployed) -> None:
    write_notebook(deployed.inputs / "good.ipynb", "import os\nos.write(1, b'raw')", parameters="n = 0")
    write_notebook(deployed.inputs / "broken.ipynb", "1 / 0", parameters="n = 0")
    write_notebook(deployed.inputs / "slow.ipynb", WAITS)
    deployed.write_workflows(MIXED_DAY)


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[httpx.Client]:
    """Run a Prometheus that scrapes AutoFlow at the port `target` with the documented rules; yield a client for it."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "autoflow", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    folder.mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_for(lambda: process.poll() is not None or is_ready(client))
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            yield client
    finally:
        process.terminate()
        process.wait()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False


def answer(client: httpx.Client, query: str) -> list[Any]:
    response = client.get("/api/v1/query", params={"query": query})
    assert response.is_success, response.text
    found: list[Any] = response.json()["data"]["result"]
    return found


def test_every_metric_rule_and_query_of_the_dashboard_has_values_after_a_mixed_day(
    deployed: Deployed, tmp_path: Path, receiver: Receiver, prefect_url: str
) -> None:
    write_mixed_day(deployed)
    port, log = free_port(), tmp_path / "log"
    with ExitStack() as stack:
        flowapi = stack.enter_context(ExampleFlowApi())
        environ = environment(
            deployed,
            flowapi,
            AUTOFLOW_METRICS_PORT=str(port),
            AUTOFLOW_LOG_FORMAT="json",
            AUTOFLOW_LOG_LEVEL="DEBUG",
            AUTOFLOW_MAX_PARALLEL_RUNS="2",
            AUTOFLOW_NOTIFY_URLS=f"{receiver.url} json://127.0.0.1:9/",
            PREFECT_API_URL=prefect_url,
        )
        client = stack.enter_context(prometheus(tmp_path / "prometheus", port))
        stack.enter_context(running(environ, log))

        wait_for(lambda: len(list(deployed.outputs.glob("notebooks/good--north*.ipynb"))) == 2)
        flowapi.add_date("2016-01-14")
        wait_for(lambda: is_as_expected(scraped(port)), pause=0.5)
        samples = scraped(port)

        check_counts(samples)
        check_documentation(samples)
        named = set().union(*map(names_in, [*queries(), *rules()]))
        assert len(named) > 20
        missing = named - {name for name, _ in samples}
        assert {name for name in missing if not name.startswith(OF_CLUSTERS)} == OF_PROMETHEUS
        assert environ["FLOWAPI_TOKEN"] not in str(samples)

        wait_for(lambda: all(answer(client, query) for query in queries()), pause=0.5)
        loaded = [rule for group in client.get("/api/v1/rules").json()["data"]["groups"] for rule in group["rules"]]
        assert len(loaded) == len(rules())
        wait_for(lambda: answer(client, 'ALERTS{alertname="AutoFlowDatesGivenUp", alertstate="firing"}'), pause=0.5)
        assert {rule["health"] for rule in loaded} <= {"ok", "unknown"}

        deployed.write_workflows(MIXED_DAY.replace("label: hopeless", "label: other"))
        wait_for(lambda: value(scraped(port), "autoflow_dates", label="other", status="given_up"), pause=0.5)
        assert not [labels for _, labels in scraped(port) if ("label", "hopeless") in labels]
    check_log(log.read_text(encoding="utf-8"))


def is_as_expected(samples: Samples) -> bool:
    expected = {
        ("north", "done"): 2,
        ("late", "waiting_for_data"): 1,
        ("hopeless", "given_up"): 1,
        ("chain", "waiting_for_retry"): 1,
        ("", "running"): 2,
    }
    counts = {key: value(samples, "autoflow_dates", label=key[0], status=key[1], every="day") for key in expected}
    return counts == expected


def check_counts(samples: Samples) -> None:
    assert value(samples, "autoflow_dates", workflow="slow", status="due") == 2
    assert value(samples, "autoflow_dates", label="chain", status="waiting_for_earlier_date") == 2
    assert value(samples, "autoflow_dates", workflow="good", every="week", status="due") == 0
    assert value(samples, "autoflow_runs_total", label="north", state="succeeded") == 2
    assert value(samples, "autoflow_runs_total", label="hopeless", state="failed") == 1
    assert value(samples, "autoflow_runs_total", label="hopeless", state="succeeded") == 0
    assert value(samples, "autoflow_run_duration_seconds_count", label="north", state="succeeded") == 2
    assert value(samples, "autoflow_notebook_duration_seconds_count", workflow="good", state="succeeded") == 2
    assert value(samples, "autoflow_notebook_duration_seconds_count", workflow="broken", state="failed") == 2
    assert value(samples, "autoflow_newest_done_date_timestamp_seconds", label="north") == JANUARY_12
    assert value(samples, "autoflow_last_success_reference_date_timestamp_seconds", label="north") == JANUARY_12
    assert value(samples, "autoflow_newest_available_date_timestamp_seconds") == JANUARY_12 + 2 * 86400
    assert (
        time.time() - 600
        < (value(samples, "autoflow_last_success_timestamp_seconds", label="north") or 0)
        < time.time()
    )
    assert value(samples, "autoflow_last_success_timestamp_seconds", label="hopeless") is None
    assert value(samples, "autoflow_slots") == 2
    assert value(samples, "autoflow_slots_used") == 2
    assert value(samples, "autoflow_flowapi_up") == 1
    assert value(samples, "autoflow_flowapi_token_accepted") == 1
    assert (value(samples, "autoflow_flowapi_token_expiry_timestamp_seconds") or 0) > time.time()
    assert value(samples, "autoflow_last_tick_success") == 1
    assert (value(samples, "autoflow_ticks_total", result="success") or 0) >= 2
    kernels = [value(samples, "autoflow_kernels_started_total", start=start) or 0 for start in ("forked", "ordinary")]
    assert sum(kernels) >= 6
    # Failures at about the same time make one message, half a minute later.
    assert value(samples, "autoflow_messages_sent_total") in {0, 1}


def check_documentation(samples: Samples) -> None:
    families = {re.sub("_(bucket|sum|count)$", "", name) for name, _ in samples if name.startswith("autoflow_")}
    documented = {name for name in names(page("operations/monitoring.md"), "metric") if OF_CLUSTERS not in name}
    assert documented == families
    assert set(names(page("operations/monitoring.md"), "status")) == set(STATUSES.values())


def check_log(log: str) -> None:
    assert "because of a bug" not in log
    lines = [json.loads(line) for line in log.splitlines()]
    ended = [line for line in lines if line["message"].startswith("finished good:north 2016-01-11 ")]
    expected = {"workflow": "good", "label": "north", "date": "2016-01-11", "level": "INFO", "logger": "autoflow"}
    assert [line.items() >= expected.items() and isinstance(line["run"], int) for line in ended] == [True]
    written = [line for line in lines if line["message"].endswith("output outside of cells: raw")]
    assert {(line["workflow"], line["label"], line["notebook"]) for line in written} == {("good", "north", "maps")}
    ticks = [line for line in lines if line["message"].startswith("tick: ")]
    assert ticks
    assert all("run" not in line for line in ticks)


def get(port: int, path: str = "/metrics", **options: Any) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30, **options)


def test_a_port_that_is_in_use_is_named_in_one_line(deployed: Deployed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(SettingsError) as caught,
            serving_metrics(deployed.settings(AUTOFLOW_METRICS_PORT=str(port))),
        ):
            pass
    assert str(caught.value) == (
        f"AUTOFLOW_METRICS_PORT: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another port, or end what uses it"
    )


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
def test_an_address_that_is_not_of_this_machine_is_named(deployed: Deployed, host: str) -> None:
    settings = deployed.settings(AUTOFLOW_METRICS_PORT=str(free_port()), AUTOFLOW_METRICS_HOST=host)
    with pytest.raises(SettingsError, match=f"cannot listen on {host} port"), serving_metrics(settings):
        pass


def test_without_a_port_nothing_is_served(deployed: Deployed) -> None:
    with serving_metrics(deployed.settings()) as metrics:
        assert metrics is None


def test_the_server_answers_a_scrape_and_nothing_else(deployed: Deployed) -> None:
    port = free_port()
    with serving_metrics(deployed.settings(AUTOFLOW_METRICS_PORT=str(port))):
        answered = get(port, headers={"Accept-Encoding": "gzip"})
        assert answered.headers["Content-Encoding"] == "gzip"
        assert "autoflow_build_info{" in answered.text
        assert "Python" not in answered.headers["Server"]
        assert [get(port, path).status_code for path in ("/", "/metrics/x", "/favicon.ico")] == [404, 404, 404]
        assert httpx.post(f"http://127.0.0.1:{port}/metrics").status_code == 501
    with pytest.raises(httpx.ConnectError):
        get(port)


@contextmanager
def unfinished_requests(port: int, count: int) -> Iterator[Sequence[socket.socket]]:
    """Send the beginnings of so many requests."""
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
        for each in slow:
            with suppress(OSError):  # the server may have turned it away already
                each.sendall(b"GET /met")
        yield slow


def test_clients_that_never_finish_do_not_keep_others_waiting(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    settings = deployed.settings(AUTOFLOW_METRICS_PORT=str(port))
    monkeypatch.setattr("autoflow.metrics.LONGEST_REQUEST", LONG)
    with serving_metrics(settings), unfinished_requests(port, MOST_CLIENTS - 1):
        assert get(port).is_success
        with unfinished_requests(port, 5) as crowd:
            # One of them has a place, if that of the first request is free again; the others are turned away at once.
            wait_for(lambda: sum(is_closed(each) for each in crowd) >= len(crowd) - 1)

    monkeypatch.setattr("autoflow.metrics.LONGEST_REQUEST", 0.5)
    with serving_metrics(settings), unfinished_requests(port, MOST_CLIENTS) as slow:
        # Those that hold the places lose them in time.
        wait_for(lambda: all(map(is_closed, slow)))
        wait_for(lambda: is_served(port))


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def is_served(port: int) -> bool:
    try:
        return get(port).is_success
    except httpx.TransportError:
        return False


ENTRY_SERIES = 'workflow="w",label="l",every="day"'
HEALTHY = {
    'up{job="autoflow"}': "1",
    'process_start_time_seconds{job="autoflow"}': "1",
    'autoflow_needs_attention{subject="disk"}': "0",
    "autoflow_last_tick_success": "1",
    "autoflow_last_successful_tick_timestamp_seconds": "0",
    "autoflow_flowapi_up": "1",
    "autoflow_flowapi_token_accepted": "1",
    "autoflow_flowapi_token_expiry_timestamp_seconds": "5000000",
    "autoflow_newest_available_date_timestamp_seconds": "0",
    f'autoflow_dates{{{ENTRY_SERIES},status="given_up"}}': "0",
    f'autoflow_dates{{{ENTRY_SERIES},status="due"}}': "0",
    "autoflow_slots_used": "0",
    "autoflow_run_store_up": "1",
    "autoflow_prefect_up": "1",
    'autoflow_disk_free_bytes{folder="/o"}': "400000000000",
    'autoflow_disk_size_bytes{folder="/o"}': "900000000000",
    "autoflow_messages_failed_total": "0",
    "autoflow_cluster_up": "1",
    'autoflow_cluster_workers{state="usable"}': "2",
    'autoflow_cluster_workers{state="left_out"}': "0",
}
"""Series while all is well, and their values."""

PROBLEMS = (
    ('up{job="autoflow"}', "0", "10m", {"AutoFlowDown"}),
    ('process_start_time_seconds{job="autoflow"}', "1+60", "1h", {"AutoFlowRestartsOften"}),
    ('autoflow_needs_attention{subject="disk"}', "1", "10m", {"AutoFlowNeedsAttention"}),
    ("autoflow_last_tick_success", "0", "2h", {"AutoFlowTickFails"}),
    ("autoflow_flowapi_up", "0", "2h", {"AutoFlowFlowApiDown"}),
    ("autoflow_flowapi_token_accepted", "0", "1m", {"AutoFlowTokenRefused"}),
    ("autoflow_flowapi_token_expiry_timestamp_seconds", "500000", "1m", {"AutoFlowTokenExpires"}),
    (f'autoflow_dates{{{ENTRY_SERIES},status="given_up"}}', "1", "1m", {"AutoFlowDatesGivenUp"}),
    (f'autoflow_dates{{{ENTRY_SERIES},status="due"}}', "3", "1h", {"AutoFlowNothingRuns"}),
    (f'autoflow_dates{{{ENTRY_SERIES},status="due"}}', "3", "25h", {"AutoFlowNothingRuns", "AutoFlowDatesLate"}),
    ("autoflow_run_store_up", "0", "5m", {"AutoFlowRunStoreDown"}),
    ("autoflow_prefect_up", "0", "15m", {"AutoFlowPrefectDown"}),
    ('autoflow_disk_free_bytes{folder="/o"}', "900000000", "10m", {"AutoFlowDiskFull"}),
    ('autoflow_disk_free_bytes{folder="/o"}', "400000000000-100000000", "2h", {"AutoFlowDiskFillsUp"}),
    ("autoflow_messages_failed_total", "0+1", "2h", {"AutoFlowMessagesFail"}),
    ("autoflow_cluster_up", "0", "15m", {"AutoFlowClusterDown"}),
    ('autoflow_cluster_workers{state="usable"}', "0", "15m", {"AutoFlowClusterDown"}),
    ('autoflow_cluster_workers{state="left_out"}', "1", "15m", {"AutoFlowWorkersLeftOut"}),
    ("autoflow_last_successful_tick_timestamp_seconds", "-100000", "1m", {"AutoFlowDoesNotLookForDates"}),
    ("autoflow_newest_available_date_timestamp_seconds", "-700000", "1m", {"AutoFlowNoNewData"}),
    ("autoflow_slots_used", "0", "25h", set[str]()),
)
"""A series that shows a problem, its values, a time, and the alerts that are firing then."""


def rule_test(series: str, values: str, time: str, alerts: set[str]) -> Mapping[str, Any]:
    """Return a test for promtool: with these values, `alerts` and no others are firing at `time`."""
    number, unit = int(time[:-1]), time[-1]
    minutes = number * {"m": 1, "h": 60}[unit]
    given = {**HEALTHY, series: values}
    known = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    assert alerts <= known
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)]
    return {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": f"{text}{'' if re.search('.[+-]', text) else '+0'}x{minutes}"}
            for name, text in given.items()
        ],
        "promql_expr_test": [{"expr": firing, "eval_time": time, "exp_samples": expected}],
    }


SUMMARIES = {"north": "flows:north: 2 dates were given up", "": "flows: 2 dates were given up"}
"""What an alert says first, for an entry with this label."""


def summary_test(label: str) -> Mapping[str, Any]:
    """Return a test for promtool: the alert for dates that were given up names its entry."""
    labels = {"workflow": "flows", "every": "day", "status": "given_up", **({"label": label} if label else {})}
    series = "autoflow_dates{" + ",".join(f'{name}="{text}"' for name, text in labels.items()) + "}"
    description = "'autoflow runs --state failed' shows the errors, 'autoflow retry' retries the dates."
    annotations = {"summary": SUMMARIES[label], "description": description}
    expected = {"exp_labels": {"severity": "ticket", **labels}, "exp_annotations": annotations}
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": "2+0x5"}],
        "alert_rule_test": [{"eval_time": "1m", "alertname": "AutoFlowDatesGivenUp", "exp_alerts": [expected]}],
    }


def test_every_alert_fires_for_its_problem_and_none_while_all_is_well(tmp_path: Path) -> None:
    fired = set[str]().union(*(alerts for *_, alerts in PROBLEMS))
    assert fired == {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    files = []
    for interval, problems in (
        ("1m", [each for each in PROBLEMS if each[2] != "25h"]),
        # A day takes promtool long, minute by minute.
        ("5m", [each for each in PROBLEMS if each[2] == "25h"]),
    ):
        content = {"rule_files": [str(RULES)], "evaluation_interval": interval}
        tests = [rule_test(*each) for each in problems]
        files.append(tmp_path / f"{interval}.yml")
        files[-1].write_text(yaml.safe_dump({**content, "tests": tests}), encoding="utf-8")
    checked = subprocess.run(["promtool", "test", "rules", *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
