"""The ASGI application: which API a request belongs to, what it is answered, and its row in the log."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.servers.gcs import json_api, xml_api
from tests.servers.gcs.asked import Answered, Asked, asked
from tests.servers.gcs.refusals import Refused
from tests.servers.gcs.requests_log import Row
from tests.servers.gcs.state import State

OF_JSON = ("storage", "upload", "download", "batch")
TOKEN_S = 3600


def application(state: State) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given = await asked(Request(scope, receive))
        if state.damages and given.body:
            state.damages -= 1
            given = replace(given, body=_damaged(given.body))
        if state.ignores_conditions:
            kept = {name: value for name, value in given.query.items() if not name.startswith("if")}
            given = replace(given, query=kept)
        answer = answered(state, given)
        response = Response(answer.body, answer.status, answer.headers, answer.content_type)
        if given.method == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    return app


def _damaged(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def answered(state: State, given: Asked) -> Answered:
    """One step without any wait: so requests see each other whole."""
    if given.path == ("token",):
        return _token(state, given)
    is_json = given.path[0] in OF_JSON
    kind = "none"
    names: tuple[str, ...] = ()
    try:
        kind, method, names = json_api.route(given) if is_json else xml_api.route(given)
        answer: Answered = method(state, given, names)
    except Refused as refused:
        answer = _refusal(refused, given, is_json)
    bucket, name = (*names, "", "")[:2]
    state.log.add(
        Row(
            kind,
            "json" if is_json else "xml",
            answer.status,
            bucket,
            name,
            len(given.body),
            0 if given.method == "HEAD" else len(answer.body),
            given.query.get("uploadType", ""),
        )
    )
    return answer


def _refusal(refused: Refused, given: Asked, is_json: bool) -> Answered:
    headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
    if refused.status in (304, 499):
        return Answered(refused.status)
    if not is_json:
        return Answered(refused.status, refused.as_xml(), headers, xml_api.XML)
    if given.query.get("alt") == "media":
        return Answered(refused.status, refused.message.encode(), headers, "text/html; charset=UTF-8")
    return Answered(refused.status, refused.as_json(), headers)


def _token(state: State, given: Asked) -> Answered:
    """The token service: a signed assertion of a service account for an accepted bearer token. The signature is not looked
    at: who signs here is the test."""
    form = parse_qs(given.body.decode())
    if not form.get("assertion") or not state.tokens:
        return Answered(
            400, json.dumps({"error": "invalid_grant", "error_description": "Invalid JWT"}).encode()
        )
    row = {"access_token": min(state.tokens), "expires_in": TOKEN_S, "token_type": "Bearer"}
    return Answered(200, json.dumps(row).encode())
