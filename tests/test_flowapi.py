import datetime
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest

from autoflow.errors import FlowApiError, TokenError
from autoflow.flowapi import FlowApi
from autoflow.orchestration.prefect_api import free_port
from examples.flowapi import ExampleFlowApi, Misbehaviour
from tests.certificates import self_signed
from tests.waiting import wait_for

DAY = datetime.timedelta(days=1)
FIRST, SECOND, THIRD = (datetime.date(2016, 1, 1) + days * DAY for days in range(3))
TOKEN = jwt.encode({"sub": "somebody"}, "a key that only this test knows, of bytes enough")


@pytest.fixture(scope="module")
def shared_flowapi() -> Iterator[ExampleFlowApi]:
    """Only `calls` on the first date, only `sms` on the second, both on the third; no topups at all."""
    with ExampleFlowApi([], subscribers=1, seconds_per_byte=0.05) as example:
        example.add_date(FIRST, cdr_types=["calls"])
        example.add_date(SECOND, cdr_types=["sms"])
        example.add_date(THIRD, cdr_types=["calls", "sms"])
        yield example


@pytest.fixture
def flowapi(shared_flowapi: ExampleFlowApi) -> ExampleFlowApi:
    shared_flowapi.behave()
    return shared_flowapi


def why_not(flowapi: FlowApi) -> str:
    """Return why FlowAPI's dates cannot be had: a line, without the token."""
    with pytest.raises(FlowApiError) as caught:
        flowapi.available_dates()
    message = str(caught.value)
    assert "\n" not in message
    assert not flowapi.token or flowapi.token not in message
    return message


@contextmanager
def answering(status: int, body: bytes, *, certificate: Path | None = None) -> Iterator[str]:
    """Run a server that answers everything the same; yield its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_token_that_an_answer_repeats_is_not_shown_even_in_part(flowapi: ExampleFlowApi) -> None:
    token = flowapi.token()
    with answering(401, json.dumps({"msg": f"Bad token {token}"}).encode()) as url:
        message = why_not(FlowApi(url=url, token=token))
    assert "Bad token [secret]; get a new token" in message


def test_dates_of_all_types_are_joined(flowapi: ExampleFlowApi) -> None:
    client = FlowApi(url=flowapi.url, token=flowapi.token())
    assert client.available_dates().to().dates == {FIRST, SECOND, THIRD}
    assert client.available_dates().only(["calls", "sms"]).to().dates == {FIRST, SECOND, THIRD}


def test_dates_of_one_type_exclude_those_of_others(flowapi: ExampleFlowApi) -> None:
    client = FlowApi(url=flowapi.url, token=flowapi.token())
    assert client.available_dates().only(["calls"]).to().dates == {FIRST, THIRD}
    assert client.available_dates().only(iter(["sms"])).to().dates == {SECOND, THIRD}


def test_type_without_dates_gives_no_dates(flowapi: ExampleFlowApi) -> None:
    client = FlowApi(url=flowapi.url, token=flowapi.token())
    assert client.available_dates().only(["topups"]).to().dates == frozenset()
    assert client.available_dates().only(["topups", "calls"]).to().dates == {FIRST, THIRD}


def test_date_can_vanish_and_come_back(flowapi: ExampleFlowApi) -> None:
    client = FlowApi(url=flowapi.url, token=flowapi.token())
    flowapi.remove_date(SECOND)
    assert client.available_dates().to().dates == {FIRST, THIRD}
    flowapi.add_date(SECOND, cdr_types=["sms"])
    assert client.available_dates().to().dates == {FIRST, SECOND, THIRD}


MISBEHAVIOURS = {
    Misbehaviour.DOWN: "FlowAPI at URL cannot be reached: Server disconnected without sending a response.",
    Misbehaviour.HANG: "FlowAPI at URL did not answer within 0.5 s",
    Misbehaviour.DRIP: "FlowAPI at URL did not answer within 0.5 s",
    Misbehaviour.ERROR: "FlowAPI at URL answered 500: Internal server error.",
    Misbehaviour.NOT_FOUND: "no FlowAPI at URL: it has no /api/0/available_dates (404); check FLOWAPI_URL",
    Misbehaviour.UNPROCESSABLE: "FlowAPI at URL answered 422: Signature verification failed; "
    "FLOWAPI_TOKEN is not for this FlowAPI, so get one from its FlowAuth",
    Misbehaviour.EXPIRED: "FlowAPI at URL answered 401: Token has expired; "
    "get a new token from FlowAuth and put it into FLOWAPI_TOKEN",
    Misbehaviour.FORBIDDEN: "FlowAPI at URL answered 403: User claims verification failed; "
    "get a token from FlowAuth that allows available_dates",
    Misbehaviour.HTML: "FlowAPI at URL did not answer with JSON",
    Misbehaviour.GARBAGE: "FlowAPI at URL did not answer with JSON",
    Misbehaviour.NOT_HTTP: "FlowAPI at URL cannot be reached: Server disconnected without sending a response.",
    Misbehaviour.EMPTY: "FlowAPI at URL did not answer with JSON",
}


def test_every_misbehaviour_but_that_of_queries_has_its_message() -> None:
    assert set(Misbehaviour) - MISBEHAVIOURS.keys() == {Misbehaviour.ERRORED}


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_misbehaviour_is_reported_on_one_line_and_then_forgotten(
    flowapi: ExampleFlowApi, capsys: pytest.CaptureFixture[str], how: Misbehaviour
) -> None:
    client = FlowApi(url=flowapi.url, token=flowapi.token(), timeout=0.5)
    flowapi.misbehave(how)
    assert why_not(client) == MISBEHAVIOURS[how].replace("URL", flowapi.url, 1)
    flowapi.behave()
    assert client.available_dates().to().dates == {FIRST, SECOND, THIRD}
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_only_an_error_about_the_token_needs_a_new_token(flowapi: ExampleFlowApi, how: Misbehaviour) -> None:
    flowapi.misbehave(how)
    with pytest.raises(FlowApiError) as raised:
        FlowApi(url=flowapi.url, token=flowapi.token(), timeout=0.5).available_dates()
    refusals = {Misbehaviour.UNPROCESSABLE, Misbehaviour.EXPIRED, Misbehaviour.FORBIDDEN}
    assert isinstance(raised.value, TokenError) == (how in refusals)


@pytest.mark.parametrize("token", ["", "no token", "a.b.c", "ü"])
def test_what_is_no_token_is_an_error_about_the_token(flowapi: ExampleFlowApi, token: str) -> None:
    with pytest.raises(TokenError):
        FlowApi(url=flowapi.url, token=token).available_dates()


def test_answer_that_trickles_leaves_no_thread_behind(flowapi: ExampleFlowApi) -> None:
    flowapi.misbehave("drip")
    why_not(FlowApi(url=flowapi.url, token=flowapi.token(), timeout=0.1))
    wait_for(lambda: not any(thread.name.startswith("flowapi") for thread in threading.enumerate()))


def test_query_that_fails_does_not_affect_the_dates(flowapi: ExampleFlowApi) -> None:
    flowapi.misbehave("errored")
    assert FlowApi(url=flowapi.url, token=flowapi.token()).available_dates().to().dates == {FIRST, SECOND, THIRD}


def test_refused_connection_is_reported() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    message = why_not(FlowApi(url=url, token=TOKEN))
    assert message == f"FlowAPI at {url} cannot be reached: [Errno 111] Connection refused"


def test_tokens_that_flowapi_refuses_have_different_messages(flowapi: ExampleFlowApi) -> None:
    tokens = {
        "Token has expired; get a new token": flowapi.token(-DAY),
        "Signature verification failed; FLOWAPI_TOKEN is not for this FlowAPI": flowapi.token(forged=True),
        "User claims verification failed; get a token from FlowAuth that allows": flowapi.token(scopes=["run"]),
    }
    for reason, token in tokens.items():
        assert reason in why_not(FlowApi(url=flowapi.url, token=token))


def malformed(token: str) -> list[str]:
    header, claims, signature = token.split(".")
    return [
        "something-that-was-pasted-by-mistake",
        f"{header}.{claims}",
        f"{claims}.{header}.{signature}",
        f'"{token}"',
        f"Bearer {token}",
        f"{token}\nX-Other-Header: 1",
        f"{token}\r",
        f"{token}é",
        f"{token}\x00",
        f"{token[:20]}\n{token[20:]}",
        f"{token[:20]} {token[20:]}",
        "\udcff",
    ]


@pytest.mark.parametrize("place", range(len(malformed("a.b.c"))))
def test_malformed_token_is_never_echoed(
    flowapi: ExampleFlowApi, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    token = flowapi.token()
    message = why_not(FlowApi(url=flowapi.url, token=malformed(token)[place]))
    assert "FLOWAPI_TOKEN is not a valid token" in message
    assert token.split(".")[0] not in message
    assert "pasted" not in message
    assert capsys.readouterr() == ("", "")


def test_token_without_claims_is_refused(flowapi: ExampleFlowApi) -> None:
    token = jwt.encode({"exp": 1}, "a key that only this test knows, of bytes enough")
    assert why_not(FlowApi(url=flowapi.url, token=token)).startswith("FLOWAPI_TOKEN is not a valid token")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"{}", "gave an unexpected answer (KeyError)"),
        (200, b"[]", "gave an unexpected answer (TypeError)"),
        (200, b"null", "gave an unexpected answer (TypeError)"),
        (200, b'{"available_dates": []}', "are not a mapping of CDR types to dates"),
        (200, b'{"available_dates": {"calls": null}}', "contain an invalid date"),
        (200, b'{"available_dates": {"calls": "2016-01-01"}}', "contain an invalid date"),
        (200, b'{"available_dates": {"calls": ["2016-02-30"]}}', "contain an invalid date"),
        (200, b'{"available_dates": {"calls": [20160101]}}', "contain an invalid date"),
        (200, b"[" * 100_000, "did not answer with JSON"),
        (201, b"{}", "answered 201, which FlowAPI never does"),
        (204, b"", "answered 204, which FlowAPI never does"),
        (302, b"somewhere else", "answered 302, which FlowAPI never does"),
        (303, b"somewhere else", "answered 303, which FlowAPI never does"),
        (401, b"[]", "answered 401: (no message)"),
        (403, b"<html>", "answered 403: (no message)"),
        (500, b'{"msg": "one\\ntwo"}', "answered 500: one"),
        (500, b'{"msg": ""}', "answered 500: (no message)"),
        (500, b"[" * 100_000, "answered 500: (no message)"),
        (502, b"\xff\xfe", "answered 502: (no message)"),
    ],
)
def test_unexpected_answers_are_reported_on_one_line(
    capsys: pytest.CaptureFixture[str], status: int, body: bytes, reason: str
) -> None:
    with answering(status, body) as url:
        assert reason in why_not(FlowApi(url=url, token=TOKEN))
    assert capsys.readouterr() == ("", "")


def test_token_that_flowapi_echoes_is_redacted() -> None:
    body = json.dumps({"msg": f"no good: {TOKEN}"}).encode()
    with answering(400, body) as url:
        assert why_not(FlowApi(url=url, token=TOKEN)) == f"FlowAPI at {url} answered 400: no good: [secret]"


def test_long_message_is_cut() -> None:
    with answering(500, json.dumps({"msg": "x" * 100_000}).encode()) as url:
        assert len(why_not(FlowApi(url=url, token=TOKEN))) < 400


@pytest.mark.parametrize("url", ["http://\N{SNOWMAN}..", "http://" + "a" * 300])
def test_invalid_url_is_reported(url: str) -> None:
    assert why_not(FlowApi(url=url, token=TOKEN)) == f"{url} is not a valid URL; check FLOWAPI_URL"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "flowapi.pem"
    path.write_bytes(b"".join(self_signed()))
    return path


DATES = b'{"available_dates": {"calls": ["2016-01-01"]}}'


def test_private_certificate_is_trusted_when_it_is_given(certificate: Path) -> None:
    with answering(200, DATES, certificate=certificate) as url:
        assert FlowApi(url=url, token=TOKEN, ssl_certificate=certificate).available_dates().to().dates == {FIRST}


def test_private_certificate_is_not_trusted_by_itself(certificate: Path) -> None:
    with answering(200, DATES, certificate=certificate) as url:
        message = why_not(FlowApi(url=url, token=TOKEN))
    assert message.startswith(f"FlowAPI at {url} cannot be reached: [SSL: CERTIFICATE_VERIFY_FAILED]")
    assert message.endswith("; to trust its certificate, set SSL_CERTIFICATE_FILE to that file")


def test_another_certificate_does_not_help(certificate: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(self_signed().certificate)
    with answering(200, DATES, certificate=certificate) as url:
        assert "CERTIFICATE_VERIFY_FAILED" in why_not(FlowApi(url=url, token=TOKEN, ssl_certificate=other))


@pytest.mark.parametrize("write", [Path.touch, lambda path: path.write_text("no certificate"), lambda _: None])
def test_certificate_that_cannot_be_loaded_is_reported(tmp_path: Path, write: Callable[[Path], object]) -> None:
    path = tmp_path / "wrong.pem"
    write(path)
    message = why_not(FlowApi(url="https://127.0.0.1:9", token=TOKEN, ssl_certificate=path))
    assert message.startswith(f"SSL_CERTIFICATE_FILE: cannot load {path}: ")


def test_expiry_is_read_from_the_token(flowapi: ExampleFlowApi) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    expiry = FlowApi(url=flowapi.url, token=flowapi.token(3 * DAY)).token_expiry()
    assert expiry is not None
    assert before + 3 * DAY <= expiry <= before + 3 * DAY + datetime.timedelta(minutes=1)
    expired = FlowApi(url=flowapi.url, token=flowapi.token(-DAY)).token_expiry()
    assert expired is not None
    assert expired < before


@pytest.mark.parametrize("claims", [{}, {"exp": "soon"}, {"exp": None}, {"exp": 10**30}, {"exp": [1]}])
def test_expiry_that_cannot_be_read_is_none(claims: dict[str, object]) -> None:
    token = jwt.encode(claims, "a key that only this test knows, of bytes enough")
    assert FlowApi(url="http://127.0.0.1:9", token=token).token_expiry() is None


@pytest.mark.parametrize("token", ["", "a.b.c", "é", "\udcff"])
def test_invalid_token_never_expires(token: str) -> None:
    assert FlowApi(url="http://127.0.0.1:9", token=token).token_expiry() is None


def test_representation_does_not_show_the_token() -> None:
    assert TOKEN not in repr(FlowApi(url="http://127.0.0.1:9", token=TOKEN))
