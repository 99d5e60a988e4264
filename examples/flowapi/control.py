"""The routes below /control, with which users and tests change a running example, from this machine only."""

import datetime
import ipaddress
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from examples.flowapi.answers import json_answer
from examples.flowapi.calls import CDR_TYPES
from examples.flowapi.misbehaviour import Misbehaviour
from examples.flowapi.service import Service
from examples.flowapi.tokens import EXAMPLE_SCOPES


def control_app(service: Service) -> ASGIApp:
    """Return the application for the routes below /control."""
    routes = _Routes(service)
    return _ThisMachineOnly(
        Starlette(
            routes=[
                Route("/control/dates/{date}", routes.add_date, methods=["PUT"]),
                Route("/control/dates/{date}", routes.remove_date, methods=["DELETE"]),
                Route("/control/misbehave", routes.misbehave, methods=["POST"]),
                Route("/control/misbehave", routes.behave, methods=["DELETE"]),
                Route("/control/queries", routes.lose_queries, methods=["DELETE"]),
                Route("/control/token", routes.token, methods=["POST"]),
                Route("/control/requests", routes.requests),
            ],
            exception_handlers={ValueError: _bad_request},
        )
    )


class _ThisMachineOnly:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not ipaddress.ip_address(scope["client"][0]).is_loopback:
            await json_answer(403, {"msg": "/control accepts requests from its own machine only"})(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def add_date(self, request: Request) -> Response:
        """PUT /control/dates/2016-01-13?cdr_type=calls&cdr_type=sms; without types, all of them."""
        self._service.dataset.ingest(*_date_and_types(request))
        return self._dates()

    async def remove_date(self, request: Request) -> Response:
        """DELETE, like add_date."""
        self._service.dataset.withdraw(*_date_and_types(request))
        return self._dates()

    async def misbehave(self, request: Request) -> Response:
        """POST {"how": "hang", "route": "available_dates", "times": 2}; by default all routes, and forever."""
        plan = await _fields(request)
        how = Misbehaviour(str(plan.get("how")))
        self._service.mood.misbehave(how, route=plan.get("route"), times=plan.get("times"))
        return json_answer(200, plan)

    async def behave(self, _request: Request) -> Response:
        """DELETE all planned misbehaviour."""
        self._service.mood.behave()
        return json_answer(200, {})

    async def lose_queries(self, _request: Request) -> Response:
        """DELETE the states of all queries."""
        self._service.lose_queries()
        return json_answer(200, {})

    async def token(self, request: Request) -> Response:
        """POST {"expires_in": SECONDS, "scopes": [...]}; without scopes, those of the example."""
        wanted = await _fields(request)
        scopes = wanted.get("scopes") or EXAMPLE_SCOPES
        expires_in = datetime.timedelta(seconds=float(wanted.get("expires_in", 86400)))
        token = self._service.mint.token(user="example", roles={"example": scopes}, expires_in=expires_in)
        return json_answer(200, {"token": token})

    async def requests(self, _request: Request) -> Response:
        """GET the requests so far."""
        return json_answer(200, {"requests": self._service.requests})

    def _dates(self) -> Response:
        return json_answer(200, {"available_dates": self._service.dataset.available_dates()})


def _date_and_types(request: Request) -> tuple[datetime.date, tuple[str, ...]]:
    cdr_types = tuple(request.query_params.getlist("cdr_type")) or CDR_TYPES
    if unknown := set(cdr_types) - set(CDR_TYPES):
        raise ValueError(f"unknown CDR type: {', '.join(sorted(unknown))}; expected {', '.join(CDR_TYPES)}")
    return datetime.date.fromisoformat(request.path_params["date"]), cdr_types


async def _fields(request: Request) -> dict[str, Any]:
    fields = await request.json() if await request.body() else {}
    if not isinstance(fields, dict):
        raise HTTPException(400, "expected a JSON object")
    return fields


async def _bad_request(_request: Request, error: Exception) -> Response:
    return json_answer(400, {"msg": str(error)})
