"""Sizes and headers."""

from __future__ import annotations

import struct

import pytest

from tierlog.errors import MalformedMessage
from tierlog.types import Buffer
from tierlog.wire.codec import encode
from tierlog.wire.framing import (
    decode_request_header,
    decode_response_header,
    encode_request,
    encode_request_header,
    encode_response,
)
from tierlog.wire.messages.list_groups import ListGroupsRequest
from tierlog.wire.registry import APIS


@pytest.mark.parametrize("client_id", [None, "", "producer-1", "größe"])
def test_request_header_round_trip_in_every_version(client_id: str | None) -> None:
    for key, spec in APIS.items():
        for version in range(spec.first_decodable_version, spec.max_version + 1):
            header = b"##" + encode_request_header(key, version, -5, client_id)
            for buffer in (header, bytearray(header), memoryview(header)):
                found = decode_request_header(buffer, 2)
                assert found == (key, version, -5, client_id, len(header), spec, True)


@pytest.mark.parametrize("version", [2, 9])
def test_every_cut_header_is_malformed(version: int) -> None:
    header = encode_request_header(0 if version == 9 else 9, version, 1, "abc")
    assert len(header) == (14 if version == 9 else 13)
    for end in range(len(header)):
        with pytest.raises(MalformedMessage):
            decode_request_header(header[:end])


def test_tags_of_a_header_are_skipped() -> None:
    header = encode_request_header(0, 9, 1, "abc")[:-1] + b"\x02\x00\x03abc\x90\x4e\x01x"
    assert decode_request_header(header + b"body").body_offset == len(header)
    for end in range(13, len(header)):
        with pytest.raises(MalformedMessage):
            decode_request_header(header[:end])


@pytest.mark.parametrize("length", [-2, -32768, 5, 32767])
def test_a_wrong_client_id_length_is_malformed(length: int) -> None:
    with pytest.raises(MalformedMessage):
        decode_request_header(struct.pack(">hhih", 3, 4, 1, length) + b"abc")


def test_a_client_id_that_is_no_utf8_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        decode_request_header(struct.pack(">hhih", 3, 4, 1, 2) + b"\xff\xfe")


def test_versions_that_are_not_spoken_are_told_not_refused() -> None:
    for key, version in ((18, 6), (18, -1), (0, 2), (0, 14), (22, 6), (4, 0), (999, 0), (-1, 0)):
        found = decode_request_header(struct.pack(">hhih", key, version, 7, -1))
        assert not found.supported
        assert found.correlation_id == 7
        assert (found.spec is None) == (key not in APIS)


@pytest.mark.parametrize(
    ("key", "version", "flexible"),
    [(0, 8, False), (0, 9, True), (18, 2, False), (18, 3, False), (18, 5, False)],
)
def test_response_header(key: int, version: int, flexible: bool) -> None:
    records = bytearray(7)
    body: list[Buffer] = [b"head", records, b"tail"]
    frame = b"".join(encode_response(key, version, 77, body))
    assert body[1] is records
    assert struct.unpack_from(">ii", frame) == (len(frame) - 4, 77)
    assert frame[8:] == (b"\0" if flexible else b"") + b"head" + records + b"tail"
    assert decode_response_header(key, version, frame, 4) == (77, 8 + flexible)
    for end in range(4, 8 + flexible):
        with pytest.raises(MalformedMessage):
            decode_response_header(key, version, frame[:end], 4)


def test_a_body_without_bytes_still_has_a_header() -> None:
    assert encode(ListGroupsRequest(), 0) == []
    assert encode_response(12, 0, 9, []) == [struct.pack(">ii", 4, 9)]
    assert b"".join(encode_request(16, 0, 9, None, [])) == struct.pack(">ihhih", 10, 16, 0, 9, -1)
