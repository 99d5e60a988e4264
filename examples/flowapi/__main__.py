"""Run the example FlowAPI, or get a token from a running one: python -m examples.flowapi {serve,token} --help."""

import argparse
import json
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from examples.flowapi.server import ExampleFlowApi, first_dates
from examples.flowapi.tokens import flows_scopes

URL = "http://127.0.0.1:9090"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of the command line."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (OSError, ValueError) as error:  # urllib raises ValueError for an invalid URL.
        sys.exit(f"python -m examples.flowapi: {error}")


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C; write the files with the URL and the token once it answers."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    with ExampleFlowApi(
        first_dates(options.dates),
        host=options.host,
        port=options.port,
        queued_seconds=options.queued_seconds,
        executing_seconds=options.executing_seconds,
        cache_seconds=options.cache_seconds,
        subscribers=options.subscribers,
    ) as api:
        _write_private(options.token_file, api.token())
        _write_private(options.url_file, api.url)
        print(f"The example FlowAPI is running at {api.url}", flush=True)
        ended.wait()


def print_token(options: argparse.Namespace) -> None:
    """Print a new token of the FlowAPI at --url."""
    wanted = {"expires_in": options.expires_in, "scopes": sorted(options.scope or flows_scopes(options.unit))}
    address = f"{options.url.rstrip('/')}/control/token"
    request = urllib.request.Request(address, json.dumps(wanted).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(json.load(answer)["token"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.flowapi", description="A small FlowAPI with made-up data."
    )
    commands = parser.add_subparsers(required=True)
    server = commands.add_parser("serve", help="serve until stopped", description=serve.__doc__)
    server.set_defaults(command=serve)
    server.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    server.add_argument("--port", type=int, default=9090, help="port; 0 means a free one (default: %(default)s)")
    server.add_argument(
        "--dates", type=int, default=12, help="number of dates, from 2016-01-01 on (default: %(default)s)"
    )
    server.add_argument("--url-file", type=Path, help="file to write the URL to")
    server.add_argument("--token-file", type=Path, help="file to write a token for the example's notebooks to")
    server.add_argument(
        "--queued-seconds", type=float, default=0.2, help="how long a query is queued (default: %(default)s)"
    )
    server.add_argument(
        "--executing-seconds", type=float, default=0.5, help="how long a query runs (default: %(default)s)"
    )
    server.add_argument("--cache-seconds", type=float, default=0.0, help="how old available dates may be (default: 0)")
    server.add_argument("--subscribers", type=int, default=12000, help="number of subscribers (default: %(default)s)")
    token = commands.add_parser("token", help="print a token", description=print_token.__doc__)
    token.set_defaults(command=print_token)
    url = os.environ.get("FLOWAPI_URL") or URL
    token.add_argument("--url", default=url, help=f"URL of the server (default: FLOWAPI_URL if that is set, or {URL})")
    token.add_argument(
        "--expires-in",
        type=float,
        default=86400,
        help="seconds; a negative number means an expired token (default: a day)",
    )
    token.add_argument(
        "--unit", default="admin2", help="spatial unit for which flows are allowed (default: %(default)s)"
    )
    token.add_argument(
        "--scope", action="append", help="a scope to grant instead of those for flows; repeat for several"
    )
    return parser


def _write_private(path: Path | None, text: str) -> None:
    """Write a file that only its owner can read; it appears complete or not at all."""
    if path is not None:
        temporary = path.with_name(f".{path.name}.part")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600, exist_ok=False)
        temporary.write_text(text)
        temporary.replace(path)


if __name__ == "__main__":
    main()
