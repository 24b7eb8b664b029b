"""Sizes and headers: the bytes around a message on a connection.

A frame is an int32 size and that many bytes: a header, then the body. Request header v1 has a nullable
int16-length client id; v2 (flexible requests) adds tagged fields and keeps the int16 length. Response header
v1 (flexible responses) adds tagged fields; ApiVersions always answers with header v0, because the client does
not know yet what the broker speaks.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import NamedTuple

from tierlog.errors import MalformedMessage
from tierlog.types import Buffer
from tierlog.wire.primitives import skip_tags
from tierlog.wire.registry import APIS, ApiSpec

API_VERSIONS_KEY = 18

_size = Layout(">i")
_request_fixed = Layout(">hhih")  # key, version, correlation id, length of the client id
_response_v0 = Layout(">ii")  # size, correlation id
_response_v1 = Layout(">iix")  # size, correlation id and an empty tag section


class RequestHeader(NamedTuple):
    """``body_offset`` is where the body begins in the frame. ``spec`` is None for an unknown key: the
    connection is then closed. For a version outside the spec the header is read as v1 and ``supported`` is
    False: ApiVersions is answered with UNSUPPORTED_VERSION in v0, others close the connection, as Kafka
    does."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body_offset: int
    spec: ApiSpec | None
    supported: bool


def decode_request_header(frame: Buffer, offset: int = 0) -> RequestHeader:
    """Reads the header of the frame whose size prefix ended before ``offset``. Raises MalformedMessage."""
    end = len(frame)
    if end - offset < _request_fixed.size:
        raise MalformedMessage(f"request header cut at {end - offset} bytes")
    key, version, correlation_id, length = _request_fixed.unpack_from(frame, offset)
    at = offset + _request_fixed.size
    client_id = None
    if length >= 0:
        if length > end - at:
            raise MalformedMessage(f"client id of {length} bytes where {end - at} remain")
        try:
            client_id = str(frame[at : at + length], "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedMessage(f"client id: {error}") from error
        at += length
    elif length != -1:
        raise MalformedMessage(f"client id of {length} bytes")
    spec = APIS.get(key)
    supported = spec is not None and spec.first_decodable_version <= version <= spec.max_version
    if supported and spec is not None and spec.is_flexible(version):
        if at >= end:
            raise MalformedMessage("request header without its tagged fields")
        if frame[at]:
            try:
                at = skip_tags(memoryview(frame), frame[at], at + 1, end)
            except IndexError as error:
                raise MalformedMessage("tagged fields of a request header cut") from error
        else:
            at += 1
    return RequestHeader(key, version, correlation_id, client_id, at, spec, supported)


def encode_response(api_key: int, version: int, correlation_id: int, body: list[Buffer]) -> list[Buffer]:
    """Puts size and response header before ``body``, in place; returns ``body``, ready to be sent. The header
    is joined with the first buffer, which is never records."""
    size = (len(body[0]) if len(body) == 1 else sum(map(len, body))) + 4
    since = APIS[api_key].flexible_since
    if since is None or version < since or api_key == API_VERSIONS_KEY:
        head: bytes = _response_v0.pack(size, correlation_id)
    else:
        head = _response_v1.pack(size + 1, correlation_id)
    if body:
        body[0] = head + body[0]
    else:
        body.append(head)
    return body


def encode_request_header(api_key: int, version: int, correlation_id: int, client_id: str | None) -> bytes:
    """A request header without the size prefix: for replica fetchers and tests."""
    name = b"" if client_id is None else client_id.encode()
    fixed = _request_fixed.pack(api_key, version, correlation_id, -1 if client_id is None else len(name))
    return fixed + name + (b"\0" if APIS[api_key].is_flexible(version) else b"")


def encode_request(
    api_key: int, version: int, correlation_id: int, client_id: str | None, body: list[Buffer]
) -> list[Buffer]:
    """A whole request frame: size, header, body."""
    header = encode_request_header(api_key, version, correlation_id, client_id)
    return [_size.pack(len(header) + sum(map(len, body))) + header, *body]


def decode_response_header(api_key: int, version: int, frame: Buffer, offset: int = 0) -> tuple[int, int]:
    """(correlation id, offset of the body) of a response frame without its size prefix. Raises
    MalformedMessage."""
    end = len(frame)
    flexible = api_key != API_VERSIONS_KEY and APIS[api_key].is_flexible(version)
    if end - offset < 4 + flexible:
        raise MalformedMessage("response header cut")
    correlation_id: int = _size.unpack_from(frame, offset)[0]
    at = offset + 4
    if flexible:
        try:
            at = skip_tags(memoryview(frame), frame[at], at + 1, end)
        except IndexError as error:
            raise MalformedMessage("tagged fields of a response header cut") from error
    return correlation_id, at
