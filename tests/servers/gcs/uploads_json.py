"""Uploads in the JSON API: in one request of two kinds, or resumable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.servers.gcs.asked import Answered, Asked, json_answer
from tests.servers.gcs.bucket import Bucket, Wish, check_class
from tests.servers.gcs.conditions import of_query
from tests.servers.gcs.refusals import invalid, not_served, required
from tests.servers.gcs.resources import hashes_of, object_resource, parsed, parts_of, wish_of
from tests.servers.gcs.state import State


def insert(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    bucket = state.bucket(names[0])
    row: dict[str, Any] = {}
    data, media_type = asked.body, asked.headers.get("content-type", "application/octet-stream")
    kind = asked.query.get("uploadType")
    if kind == "multipart":
        row, data, media_type = parts_of(asked.body, media_type)
    elif kind == "resumable":
        row, media_type = (
            parsed(asked.body),
            asked.headers.get("x-upload-content-type", "application/octet-stream"),
        )
    elif kind != "media":
        raise invalid(f"Invalid upload type: {kind}")
    name = row.get("name") or asked.query.get("name", "")
    if not name:
        raise required("Required parameter: name")
    state.allow_write(asked.authorization, bucket, name)
    given = hashes_of(asked.headers)
    wish = wish_of({"contentType": media_type, **row})
    wish = replace(wish, crc32c=wish.crc32c or given.crc32c, md5=wish.md5 or given.md5)
    if kind == "resumable":
        return _begin(state, asked, bucket, name, wish)
    made = bucket.put(name, data, wish, of_query(asked.query), state.now_ms())
    return json_answer(asked, object_resource(bucket, made, asked.base_url))


def _begin(state: State, asked: Asked, bucket: Bucket, name: str, wish: Wish) -> Answered:
    announced = asked.headers.get("x-upload-content-length")
    size_bytes = int(announced) if announced else None
    check_class(wish.storage_class)
    upload_id = state.uploads.begin(bucket, name, wish, of_query(asked.query), size_bytes)
    where = f"{asked.base_url}/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&upload_id={upload_id}"
    return Answered(200, b"", {"Location": where, "X-GUploader-UploadID": upload_id})


def part(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    """The id of a session stands for a token: nothing else is asked for."""
    upload_id = asked.query["upload_id"]
    if asked.method == "DELETE":
        state.uploads.cancel(upload_id)
        return Answered(499)
    if asked.method not in ("PUT", "POST"):
        raise not_served(f"{asked.method} of an upload session")
    session, made = state.uploads.take(
        upload_id,
        asked.headers.get("content-range", ""),
        asked.body,
        hashes_of(asked.headers),
        state.now_ms(),
    )
    if made is not None:
        return json_answer(asked, object_resource(session.bucket, made, asked.base_url))
    have = len(session.data)
    return Answered(308, b"", {"Range": f"bytes=0-{have - 1}"} if have else {})
