"""FlowAPI's answers, byte for byte: JSON without spaces, streamed rows, and HTML pages."""

import html
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response, StreamingResponse


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """An error answer to a request: a status, and a JSON body or an HTML page."""

    def __init__(self, status: int, body: Mapping[str, Any] | str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers

    def answer(self) -> Response:
        """Return the answer to send."""
        if isinstance(self.body, str):
            return html_page(self.status, self.body, headers=self.headers)
        return json_answer(self.status, self.body, headers=self.headers)


def compact(value: object, *, sort_keys: bool = False) -> str:
    """Return JSON without spaces."""
    return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"))


def json_answer(status: int, body: object, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer of JSON with sorted keys."""
    return Response(compact(body, sort_keys=True), status, headers, media_type="application/json")


def html_page(status: int, text: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return an HTML page with an error message."""
    phrase = HTTPStatus(status).phrase
    page = f"<!doctype html>\n<html lang=en>\n<title>{status} {phrase}</title>\n<h1>{phrase}</h1>\n"
    return Response(f"{page}<p>{html.escape(text, quote=False)}</p>\n", status, headers, media_type="text/html")


def streamed(parts: Iterable[str], *, media_type: str, filename: str) -> Response:
    """Return a file in chunks, one for each part."""
    headers = {"content-type": media_type, "content-disposition": f"attachment;filename={filename}"}
    return StreamingResponse(_chunks(parts), headers=headers)


def rows_in(opening: str, rows: Iterable[object], closing: str) -> Iterable[str]:
    """Yield JSON with rows between an opening and a closing, separated by a comma and a space."""
    yield opening
    for number, row in enumerate(rows):
        yield f", {compact(row)}" if number else compact(row)
    yield closing


def csv_lines(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield a header line and a line for each row, ending in CR LF; nothing if there are no rows."""
    for number, row in enumerate(rows):
        if not number:
            yield ",".join(row) + "\r\n"
        yield ",".join(str(value) for value in row.values()) + "\r\n"


async def _chunks(parts: Iterable[str]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part.encode()
