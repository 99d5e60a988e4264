"""FlowAPI's routes, below /api/0."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from examples.flowapi.answers import Refusal, csv_lines, html_page, json_answer, rows_in, streamed
from examples.flowapi.country import UNITS, Country, Region
from examples.flowapi.jobs import Job, QueryState
from examples.flowapi.misbehaviour import ERRORED
from examples.flowapi.queries import InvalidSpecError, NoDataError, Query, Row, UnparsableSpecError, parse_query
from examples.flowapi.service import Service

_UNPARSABLE: Final = {"msg": "Could not parse query spec."}
_MEDIA_TYPES: Final = {"json": "application/json", "csv": "text/csv", "geojson": "application/geo+json"}


def api_app(service: Service) -> Starlette:
    """Return the application for the routes below /api/0."""
    routes = _Routes(service)
    app = Starlette(
        routes=[
            Route("/api/0/available_dates", routes.available_dates),
            Route("/api/0/run", routes.run, methods=["POST"]),
            Route("/api/0/poll/{query_id}", routes.poll),
            Route("/api/0/get/{query_id}", routes.get),
            Route("/api/0/geography/{unit}", routes.geography),
        ],
        exception_handlers={Refusal: _refuse, HTTPException: _no_such_route},
    )
    app.router.redirect_slashes = False
    return app


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def available_dates(self, request: Request) -> Response:
        self._require(request, "get_available_dates")
        return json_answer(200, {"available_dates": self._service.available_dates()})

    async def run(self, request: Request) -> Response:
        self._require(request, "run")
        query = _parsed(await _spec(request))
        self._require(request, "run", scopes=query.scopes())
        try:
            job = self._service.run(query, fails=ERRORED in request.scope)
        except NoDataError as error:
            body = {"msg": "Unable to create query object.", "payload": {"exception": str(error)}, "status": "Error"}
            raise Refusal(400, body) from error
        location = {"location": f"/api/0/poll/{query.query_id}"}
        return json_answer(202, {"progress": job.progress, "query_id": query.query_id}, headers=location)

    async def poll(self, request: Request) -> Response:
        job = self._job(request, request.path_params["query_id"], "run", "get_result")
        state = job.state
        match state:
            case QueryState.COMPLETED:
                location = {"location": f"/api/0/get/{job.query.query_id}"}
                return json_answer(303, {"status": state}, headers=location)
            case QueryState.ERRORED:
                return json_answer(500, {"msg": "", "status": state})
            case QueryState.KNOWN:
                return json_answer(404, {"msg": "", "status": state})
        return json_answer(202, {"msg": "", "progress": job.progress, "status": state})

    async def get(self, request: Request) -> Response:
        query_id, _, suffix = request.path_params["query_id"].partition(".")
        job = self._job(request, query_id, "get_result")
        file_format = suffix or "json"
        if file_format not in _MEDIA_TYPES:
            raise Refusal(400, {"msg": "Invalid file format", "status": "error"})
        match job.state:
            case QueryState.ERRORED:
                raise Refusal(403, {"msg": f"Query with id '{query_id}' finished with an error.", "status": "Error"})
            case QueryState.KNOWN:
                message = f"Query with id '{query_id}' is known, but has not yet been run."
                raise Refusal(404, {"msg": message, "status": "Error"})
            case QueryState.COMPLETED:
                return self._result(job, file_format)
        return json_answer(202, {})

    async def geography(self, request: Request) -> Response:
        unit = request.path_params["unit"]
        self._require(request, "get_result", scopes=[f"{unit}:geography:geography"])
        if unit not in UNITS:
            raise Refusal(500, {"msg": "Parameter validation failed.", "status": "Error"})
        return _feature_collection(
            (_feature(number, region, {}) for number, region in _numbered(self._service.dataset.country, unit)),
            filename=f"{unit}.geojson",
        )

    def _result(self, job: Job, file_format: str) -> Response:
        query_id, rows = job.query.query_id, job.rows(self._service.dataset)
        filename = f"{query_id}.{file_format}"
        if file_format == "geojson":
            return _feature_collection(self._features(job.query, rows), filename=filename)
        parts = rows_in(f'{{"query_id":"{query_id}", "query_result":[', rows, "]}")
        if file_format == "csv":
            parts = csv_lines(rows)
        return streamed(parts, media_type=_MEDIA_TYPES[file_format], filename=filename)

    def _features(self, query: Query, rows: list[Row]) -> Iterable[Row]:
        """Yield a feature for each region in the result."""
        mentioned = {value for row in rows for key, value in row.items() if key.startswith("pcod")}
        for number, region in _numbered(self._service.dataset.country, query.unit):
            if region.pcod in mentioned:
                yield _feature(number, region, query.properties(rows, region.pcod))

    def _job(self, request: Request, query_id: str, *actions: str) -> Job:
        self._require(request, *actions)
        job = self._service.job(query_id)
        self._require(request, *actions, scopes=job.query.scopes())
        return job

    def _require(self, request: Request, *actions: str, scopes: Iterable[str] = ()) -> None:
        self._service.require(request.headers.get("authorization"), *actions, scopes=scopes)


async def _spec(request: Request) -> Mapping[str, Any]:
    try:
        spec = json.loads(await request.body())
    except ValueError as error:
        raise Refusal(400, "The body of the request is not JSON.") from error
    if not isinstance(spec, dict) or "query_kind" not in spec:
        raise Refusal(400, _UNPARSABLE)
    return spec


def _parsed(spec: Mapping[str, Any]) -> Query:
    try:
        return parse_query(spec)
    except UnparsableSpecError as error:
        raise Refusal(400, _UNPARSABLE) from error
    except InvalidSpecError as error:
        parameters, messages = json.dumps(spec, sort_keys=True), json.dumps(error.messages, sort_keys=True)
        details = f"The action parameters were:\n   {parameters}.\n\nValidation error messages:\n   {messages}.\n\n"
        raise Refusal(400, {"msg": f"Parameter validation failed.\n\n{details}"}) from error


def _numbered(country: Country, unit: str) -> Iterable[tuple[int, Region]]:
    return enumerate(country.regions[unit], start=1)


def _feature(number: int, region: Region, properties: Row) -> Row:
    shown = {"pcod": region.pcod, **properties, "centroid": region.centroid}
    return {"type": "Feature", "id": number, "geometry": region.geometry, "properties": shown}


def _feature_collection(features: Iterable[Row], *, filename: str) -> Response:
    parts = rows_in('{"type":"FeatureCollection", "features":[', features, "]}")
    return streamed(parts, media_type=_MEDIA_TYPES["geojson"], filename=filename)


async def _refuse(_request: Request, refusal: Exception) -> Response:
    if not isinstance(refusal, Refusal):
        raise refusal
    return refusal.answer()


async def _no_such_route(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code != 405:
        return html_page(error.status_code, "There is nothing at this address.")
    methods = {method.strip() for method in (error.headers or {}).get("Allow", "").split(",")}
    allowed = {"allow": ", ".join(sorted(methods | {"OPTIONS"}, key="GET HEAD POST OPTIONS".index))}
    return html_page(405, "This address does not take this method.", headers=allowed)
