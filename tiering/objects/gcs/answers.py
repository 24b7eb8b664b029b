"""What went wrong with a request to Google Cloud Storage, whichever client saw it, in one form. Pure.

obstore puts all that it knows into a text for its developers: method, URL, status, and the body in XML. Google's clients
raise exceptions of four libraries (api_core, auth, requests, their own for uploads), most with the answer attached, in JSON.
Neither form leaves this module.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_STATUS = re.compile(r"status code: (\d{3})")
_BODY = re.compile(r"status code: \d{3}[^:\n]*: (.*)", re.DOTALL)
_OF_PROVIDER = "External GCP credential provider"
# obstore says so of an answer without what all of Google's have.
_NOT_AN_ANSWER = ("MissingEtag", "MissingLastModified", "MissingContentLength", "Got invalid ")
# An answer that should be JSON, and is none.
_NOT_JSON = ("JSONDecodeError", "InvalidJSONError")
_FOREIGN = "an answer that is not Google's"
_LINE_MAX = 400
# Whoever knows it may write into the upload.
_SESSION = re.compile(r"upload_id=[^&\s\"']+")


@dataclass(frozen=True, slots=True)
class Answer:
    """``status``: of HTTP, None where there was no answer. ``reason``: the JSON API's word or the XML API's code. ``words``:
    the message in one line. ``text``: everything, for what only shows there. ``is_google``: whether the body is Google's.
    """

    status: int | None
    reason: str
    words: str
    text: str
    is_google: bool = True


def of_obstore(error: Exception) -> Answer:
    text = str(error)
    status, body = _STATUS.search(text), _BODY.search(text)
    if any(word in text for word in _NOT_AN_ANSWER):
        return Answer(None, "", one_line(text), text, is_google=False)
    if status is None or body is None:
        return Answer(None, "", one_line(text), text)
    reason, words, is_google = _said(body[1].split("\n\nDebug source", 1)[0].strip())
    return Answer(int(status[1]), reason, words or one_line(text), text, is_google)


def is_of_provider(error: Exception) -> bool:
    """Whether obstore only passes on that the credentials could not be had."""
    return _OF_PROVIDER in str(error)


def of_google(error: BaseException) -> Answer:
    """``error.response`` is what ``requests`` got, where there was an answer."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is None:
        kind = type(error).__name__
        return Answer(None, kind, one_line(str(error)), f"{kind}: {_chain(error)}", kind not in _NOT_JSON)
    return of_response(int(status), str(getattr(response, "text", "")))


def of_response(status: int, body: str) -> Answer:
    reason, words, is_google = _said(body.strip())
    return Answer(status, reason, words or f"HTTP {status}", body, is_google)


def one_line(text: str) -> str:
    said = " ".join(text.split("\n\nDebug source", 1)[0].split())
    return _SESSION.sub("upload_id=…", said)[:_LINE_MAX]


def _said(body: str) -> tuple[str, str, bool]:
    """Reason, message, and whether Google said it, from the body of a refusal."""
    if not body:
        return "", "", True
    if body.startswith("{"):
        return _said_in_json(body)
    code = re.search(r"<Code>(\w+)</Code>", body)
    if code is not None:
        message = re.search(r"<Details>([^<]*)</Details>", body) or re.search(
            r"<Message>([^<]*)</Message>", body
        )
        return code[1], one_line(message[1]) if message is not None else code[1], True
    if "<" in body:
        return "", _FOREIGN, False
    # The bytes of an object are refused in plain words.
    return "", one_line(body), True


def _said_in_json(body: str) -> tuple[str, str, bool]:
    try:
        found: Any = json.loads(body)
    except ValueError:
        return "", _FOREIGN, False
    error = found.get("error")
    if not isinstance(error, dict):
        return "", _FOREIGN, False
    rows = error.get("errors") or [{}]
    return str(rows[0].get("reason", "")), one_line(str(error.get("message", ""))), True


def _chain(error: BaseException | None) -> str:
    """The messages of an error and of what caused it."""
    found: list[str] = []
    while error is not None and len(found) < 5:
        found.append(str(error))
        error = error.__cause__ or error.__context__
    return " | ".join(found)
