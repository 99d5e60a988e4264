"""Which pages and programs AutoFlow's own Prefect server answers to, with real requests and a real browser."""

import asyncio
import http.server
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from prefect.settings.context import get_current_settings
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from starlette.applications import Starlette

from autoflow.errors import SettingsError
from autoflow.orchestration.own_pages import OwnPagesOnly
from autoflow.orchestration.prefect_api import free_port, prefect_api
from autoflow.orchestration.prefect_server_internals import allowed_origins
from autoflow.settings import Settings
from autoflow.system.stop_signal import Shutdown
from tests.browser import chromium
from tests.conftest import TOKEN_OF_NO_USE, Deployed
from tests.waiting import LONG

INPUTS = Path(__file__).resolve().parents[2] / "examples" / "inputs"
PUBLISHED = "server.example.org"
ALLOWED = ("https://a.example.org", "http://b.example.org:81")
FLOWS = "/flows/filter"
WEB_SOCKETS = ("events/in", "events/out", "logs/out")


@contextmanager
def running_server(folder: Path, database: Path, **environ: str) -> Iterator[str]:
    """Run AutoFlow's own Prefect server, as the daemon does; yield the URL of its API."""
    shutil.copy(database, folder)
    given = {
        "AUTOFLOW_INPUTS_DIR": str(INPUTS),
        "AUTOFLOW_OUTPUTS_DIR": str(folder),
        "FLOWAPI_URL": "http://127.0.0.1:9",
        "FLOWAPI_TOKEN": TOKEN_OF_NO_USE,
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_PORT": str(free_port()),
        "PREFECT_UI_STATIC_DIRECTORY": str(folder / "ui"),
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        **environ,
    }
    with prefect_api(Settings.read(given), given) as api:
        assert api.wait_until_ready(Shutdown(), timeout=LONG)
        yield api.url


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[str]:
    """Run a server that listens on all addresses, is published under another name, and may be used by two origins."""
    folder = tmp_path_factory.mktemp("published")
    environ = {
        "PREFECT_SERVER_API_HOST": "0.0.0.0",
        "AUTOFLOW_UI_HOSTS": f"autoflow, {PUBLISHED}",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ", ".join(ALLOWED),
    }
    with running_server(folder, prefect_database, **environ) as url:
        yield url


@pytest.fixture(scope="module")
def port(api: str) -> int:
    found = httpx.URL(api).port
    assert found
    return found


def new_flow(api: str, **headers: str) -> httpx.Response:
    """Try to change something."""
    return httpx.post(f"{api}/flows/", json={"name": uuid.uuid4().hex}, headers=headers, timeout=LONG)


def flows(api: str) -> int:
    answer = httpx.post(f"{api}/flows/count", json={}, timeout=LONG)
    return int(answer.raise_for_status().text)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:{port}",
        "localhost:{port}",
        "LocalHost.:{port}",
        "localhost",
        "[::1]:{port}",
        f"{PUBLISHED}:8080",
        PUBLISHED,
        "autoflow:{port}",
        f"{socket.gethostname()}:4200",
        "0.0.0.0:{port}",
    ],
)
def test_server_answers_to_its_names_and_to_their_pages_on_any_published_port(api: str, port: int, host: str) -> None:
    host = host.format(port=port)
    assert new_flow(api, Host=host).is_success
    assert new_flow(api, Host=host, Origin=f"http://{host}").is_success
    assert new_flow(api, Host=host, Origin=f"https://{host}").is_success, "a proxy may add TLS"


def test_other_names_are_refused_with_the_setting(api: str, port: int) -> None:
    others = [
        "evil.example",
        f"evil.example:{port}",
        f"{PUBLISHED}.evil.example",
        f"evil{PUBLISHED}",
        f"localhost.evil.example:{port}",
        "127.0.0.1.evil.example",
        f"192.0.2.7:{port}",
        f"[2001:db8::7]:{port}",
        f"127.0.0.1:{port}@evil.example",
        f"evil.example@127.0.0.1:{port}",
        f"127.0.0.1:{port}, evil.example",
        "127.0.0.1:port",
        "",
    ]
    before = flows(api)
    for host in others:
        for path in ("/api/health", "/", "/runs"):
            answer = httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
            assert answer.status_code == 400, host
            assert "AUTOFLOW_UI_HOSTS" in answer.text
            assert answer.text.count("\n") == 1
            assert host in answer.text
        assert new_flow(api, Host=host).status_code == 400, host
        assert new_flow(api, Host=host, Origin=f"http://{host}").status_code == 400, host
    assert flows(api) == before


@pytest.mark.parametrize("hosts", [[], ["127.0.0.1", "127.0.0.1"], ["127.0.0.1", "evil.example"]])
def test_request_has_exactly_one_host(api: str, port: int, hosts: list[str]) -> None:
    lines = ["GET /api/health HTTP/1.0", *(f"Host: {host}" for host in hosts), "", ""]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall("\r\n".join(lines).encode())
        assert connection.makefile().readline().split()[1] == "400", api


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "file://"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://localhost:{port}"},
    {"Origin": f"http://{PUBLISHED}"},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Origin": "http://127.0.0.1:{port}@evil.example"},
    {"Origin": "chrome-extension://127.0.0.1:{port}"},
    {"Origin": "http://[bad"},
    {"Origin": "http://127.0.0.1:99999"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


def filled(headers: Mapping[str, str], port: int) -> dict[str, str]:
    return {name: value.format(port=port) for name, value in headers.items()}


def test_pages_of_other_origins_can_neither_read_nor_change_anything(api: str, port: int) -> None:
    before = flows(api)
    for headers in FOREIGN:
        foreign = filled(headers, port)
        answers = [
            httpx.get(f"{api}/admin/settings", headers=foreign),
            httpx.get(f"http://127.0.0.1:{port}/ui-settings", headers=foreign),
            httpx.post(f"{api}{FLOWS}", json={}, headers=foreign),
            httpx.post(f"{api}/flows/", content='{"name": "f"}', headers={**foreign, "Content-Type": "text/plain"}),
            httpx.options(f"{api}/flows/", headers={**foreign, "Access-Control-Request-Method": "POST"}),
            new_flow(api, **foreign),
        ]
        for answer in answers:
            assert answer.status_code == 403, headers
            assert not [name for name in answer.headers if name.startswith("access-control")], headers
            assert "PREFECT_SERVER_CORS_ALLOWED_ORIGINS" in answer.text
    assert flows(api) == before


def test_a_link_to_the_ui_works_from_any_page(api: str, port: int) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert httpx.get(f"http://127.0.0.1:{port}/", headers=link, follow_redirects=True).is_success
    # A form of a foreign page is a navigation, too.
    assert new_flow(api, **link).status_code == 403


def test_proxy_with_tls_need_not_pass_on_the_host(api: str) -> None:
    """Browsers say themselves that a page is of the same origin, if it came with TLS."""
    own = {"Origin": "https://prefect.example.org", "Sec-Fetch-Site": "same-origin", "Host": "127.0.0.1:4200"}
    assert new_flow(api, **own).is_success


def test_ui_cannot_be_shown_in_a_frame_of_another_page(api: str) -> None:
    headers = httpx.get(api.removesuffix("/api"), follow_redirects=True).headers
    own, *others = headers["content-security-policy"].removeprefix("frame-ancestors ").split()
    assert (own, set(others)) == ("'self'", set(ALLOWED))


async def opened(url: str, headers: Mapping[str, str]) -> bool:
    """Return whether a WebSocket is accepted, and not refused."""
    try:
        async with websockets.connect(
            url, additional_headers=headers, subprotocols=[websockets.Subprotocol("prefect")]
        ):
            return True
    except websockets.InvalidStatus as error:
        return error.response.status_code != 403


@pytest.mark.parametrize("path", WEB_SOCKETS)
def test_web_sockets_are_refused_likewise(port: int, path: str) -> None:
    url = f"ws://127.0.0.1:{port}/api/{path}"
    for foreign in [*FOREIGN[:8], {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}]:
        assert not asyncio.run(opened(url, filled(foreign, port)))
    assert asyncio.run(opened(url, {}))
    assert asyncio.run(opened(url, {"Origin": f"http://127.0.0.1:{port}"}))


def test_web_socket_under_another_name_is_refused() -> None:
    def asgi_answer(host: str) -> list[dict[str, Any]]:
        scope: dict[str, Any] = {
            "type": "websocket",
            "headers": [(b"host", host.encode())],
            "extensions": {"websocket.http.response": {}},
        }
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        asyncio.run(OwnPagesOnly(Starlette(), hosts=["name"], origins=[])(scope, receive, send))
        return sent

    assert asgi_answer("evil.example")[0]["status"] == 400


def test_origins_that_the_operator_allows_may_use_the_api(api: str) -> None:
    for origin in ALLOWED:
        answer = new_flow(api, Origin=origin, **{"Sec-Fetch-Site": "cross-site"})
        assert answer.is_success
        assert answer.headers["access-control-allow-origin"] == origin
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        assert httpx.options(f"{api}/flows/", headers=asked).is_success
    for origin in ("http://a.example.org", "https://a.example.org:444", "http://evil.example"):
        assert new_flow(api, Origin=origin).status_code == 403
    assert new_flow(api, Host="evil.example", Origin=ALLOWED[0]).status_code == 400


def test_no_origin_is_allowed_unless_the_operator_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = get_current_settings().server.api
    monkeypatch.setattr(settings, "cors_allowed_origins", "*")
    settings.model_fields_set.discard("cors_allowed_origins")
    assert allowed_origins() == []
    assert settings.cors_allowed_origins == ""


@pytest.mark.parametrize("name", ["https://server.example.org", "server.example.org:8080", "*", "a/b", "a@b", "x:y"])
def test_host_names_are_checked(deployed: Deployed, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        deployed.settings(AUTOFLOW_UI_HOSTS=f"ok.example.org {name}")
    assert str(caught.value).startswith(f"AUTOFLOW_UI_HOSTS: '{name}' is not a host name such as ")


def test_host_names_may_be_separated_in_several_ways(deployed: Deployed) -> None:
    settings = deployed.settings(AUTOFLOW_UI_HOSTS="a.example.org, b  c_d,\n[2001:db8::7] 192.0.2.7")
    assert settings.ui_hosts == ("a.example.org", "b", "c_d", "[2001:db8::7]", "192.0.2.7")
    assert deployed.settings().ui_hosts == ()


EVIL_PAGE = b"<!doctype html><title>evil</title><p>evil"

ATTACK = """
const [api, done] = arguments;
const body = JSON.stringify({name: "evil"});
const tries = {
  get: () => fetch(`${api}/admin/settings`),
  opaque_get: () => fetch(`${api}/admin/settings`, {mode: "no-cors"}),
  post: () => fetch(`${api}/flows/`, {method: "POST", body, headers: {"Content-Type": "application/json"}}),
  opaque_post: () => fetch(`${api}/flows/`, {method: "POST", body, mode: "no-cors",
                                             headers: {"Content-Type": "text/plain"}}),
  beacon: async () => { navigator.sendBeacon(`${api}/flows/`, body); throw "sent"; },
  web_socket: () => new Promise((opened, failed) => {
    const socket = new WebSocket(`${api.replace("http", "ws")}/events/in`, "prefect");
    socket.onopen = () => opened({type: "open"}); socket.onerror = () => failed("refused");
  }),
};
(async () => {
  const got = {};
  for (const [name, attempt] of Object.entries(tries)) {
    try { const answer = await attempt(); got[name] = answer.type + (answer.text ? await answer.text() : ""); }
    catch (error) { got[name] = "nothing"; }
  }
  done(got);
})();
"""


@contextmanager
def other_site() -> Iterator[int]:
    """Serve a page of another origin; yield its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(EVIL_PAGE)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """Start a browser for which some names are those of this machine, as they would be after DNS rebinding."""
    rules = f"--host-resolver-rules=MAP {PUBLISHED} 127.0.0.1, MAP evil.example 127.0.0.1"
    with chromium(tmp_path_factory.mktemp("chromium"), rules) as driver:
        driver.set_script_timeout(LONG)
        yield driver


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example", PUBLISHED])
def test_page_of_another_origin_gets_nothing_and_changes_nothing(
    api: str, port: int, browser: WebDriver, host: str
) -> None:
    before = flows(api)
    with other_site() as site:
        browser.get(f"http://{host}:{site}/")
        assert browser.title == "evil"
        for name in ("127.0.0.1", "localhost", PUBLISHED):
            got = browser.execute_async_script(ATTACK, f"http://{name}:{port}/api")
            assert {result for result in got.values() if result not in {"nothing", "opaque"}} == set()
            assert [got[name] for name in ("get", "post", "web_socket")] == ["nothing"] * 3
    assert flows(api) == before


def test_page_whose_name_was_made_to_point_at_this_machine_gets_nothing(
    api: str, port: int, browser: WebDriver
) -> None:
    before = flows(api)
    browser.get(f"http://evil.example:{port}/api/health")
    assert "AUTOFLOW_UI_HOSTS" in browser.find_element(By.TAG_NAME, "body").text
    got = browser.execute_async_script(ATTACK, f"http://evil.example:{port}/api")
    assert all("AUTOFLOW_UI_HOSTS" in got[name] for name in ("get", "post"))
    assert got["web_socket"] == "nothing"
    assert flows(api) == before


@pytest.mark.parametrize("host", ["127.0.0.1", PUBLISHED])
def test_prefects_ui_shows_runs(api: str, port: int, browser: WebDriver, host: str) -> None:
    name = f"run-{uuid.uuid4().hex}"
    flow = new_flow(api).json()
    created = {"flow_id": flow["id"], "name": name, "state": {"type": "COMPLETED"}}
    run = httpx.post(f"{api}/flow_runs/", json=created).raise_for_status().json()
    browser.get(f"http://{host}:{port}/runs/flow-run/{run['id']}")
    WebDriverWait(browser, LONG).until(lambda page: name in page.find_element(By.TAG_NAME, "body").text)
