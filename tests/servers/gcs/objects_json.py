"""Objects in the JSON API, once they are there. Each function answers one method of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.servers.gcs.asked import Answered, Asked, json_answer
from tests.servers.gcs.bucket import Bucket, Generation
from tests.servers.gcs.conditions import generation_of, of_query
from tests.servers.gcs.refusals import invalid, not_served
from tests.servers.gcs.resources import object_resource, parsed, wish_of
from tests.servers.gcs.state import State


def list_(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.list")
    bucket, query = state.bucket(names[0]), asked.query
    page = int(query.get("maxResults") or state.page_max)
    if page < 1:
        raise invalid(f"Invalid value '{page}' for maxResults.")
    start = query.get("pageToken", "") and bytes.fromhex(query["pageToken"]).decode()
    soft, versions = query.get("softDeleted") == "true", query.get("versions") == "true"
    if soft and versions:
        raise invalid("You can't list soft-deleted objects and versions at once.")
    if query.get("delimiter"):
        raise not_served("a delimiter in a JSON list")
    found = bucket.names(
        query.get("prefix", ""),
        max(start, query.get("startOffset", "")),
        soft_deleted=soft,
        versions=versions,
    )
    before = query.get("endOffset")
    rows: list[Generation] = []
    token = ""
    for each in found:
        if before and each.name >= before:
            break
        if len(rows) >= min(page, state.page_max) and each.name != rows[-1].name:
            token = each.name.encode().hex()
            break
        rows.append(each)
    row: dict[str, Any] = {"kind": "storage#objects"}
    if token:
        row["nextPageToken"] = token
    if rows:
        row["items"] = [object_resource(bucket, each, asked.base_url) for each in rows]
    return json_answer(asked, row)


def get(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.get")
    bucket, query = state.bucket(names[0]), asked.query
    generation = generation_of(query)
    if query.get("softDeleted") == "true":
        found = bucket.find_soft_deleted(names[1], generation)
    else:
        found = bucket.find(names[1], generation)
    of_query(query).check(found, is_read=True)
    if query.get("alt") == "media":
        return media(asked, found)
    return json_answer(asked, object_resource(bucket, found, asked.base_url))


def media(asked: Asked, found: Generation) -> Answered:
    """The bytes, or a range of them, with the headers that both APIs send."""
    headers = {
        "x-goog-generation": str(found.generation),
        "x-goog-metageneration": str(found.metageneration),
        "x-goog-hash": f"crc32c={found.crc32c},md5={found.md5}",
        "x-goog-stored-content-length": str(len(found.data)),
        "x-goog-stored-content-encoding": "identity",
        "x-goog-storage-class": found.storage_class,
        "Accept-Ranges": "bytes",
        "ETag": found.etag,
    }
    wanted = asked.byte_range(len(found.data))
    if wanted is None:
        return Answered(200, found.data, headers, found.wish.content_type)
    start, end = wanted
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(found.data)}"
    return Answered(206, found.data[start:end], headers, found.wish.content_type)


def patch(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.update")
    bucket = state.bucket(names[0])
    found = bucket.find(names[1], generation_of(asked.query))
    of_query(asked.query).check(found, is_read=False)
    bucket.patch(found, wish_of(parsed(asked.body), found.wish), state.now_ms())
    return json_answer(asked, object_resource(bucket, found, asked.base_url))


def delete(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.delete")
    bucket = state.bucket(names[0])
    bucket.delete(names[1], generation_of(asked.query), of_query(asked.query), state.now_ms())
    return Answered(204)


def restore(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.restore")
    state.allow(asked.authorization, "storage.objects.create")
    bucket = state.bucket(names[0])
    made = bucket.restore(names[1], generation_of(asked.query), of_query(asked.query), state.now_ms())
    return json_answer(asked, object_resource(bucket, made, asked.base_url))


def _rewritten(state: State, asked: Asked, names: tuple[str, ...]) -> tuple[Bucket, Generation]:
    """The copy; its class is the one that the body names, or the destination bucket's."""
    state.allow(asked.authorization, "storage.objects.get")
    source, destination = state.bucket(names[0]), state.bucket(names[2])
    state.allow_write(asked.authorization, destination, names[3])
    found = source.find(names[1], generation_of(asked.query, "sourceGeneration"))
    of_query(asked.query, "Source").check(found, is_read=False)
    row = parsed(asked.body)
    before = replace(
        found.wish, storage_class=None, temporary_hold=False, event_hold=False, retain_until_ms=None
    )
    wish = replace(wish_of(row, None if row.get("contentType") else before), crc32c=None, md5=None)
    made = destination.put(names[3], found.data, wish, of_query(asked.query), state.now_ms())
    return destination, made


def rewrite(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    """In several calls where one does not get it done: the token says how far it has come."""
    state.allow(asked.authorization, "storage.objects.get")
    size_bytes = len(
        state.bucket(names[0]).find(names[1], generation_of(asked.query, "sourceGeneration")).data
    )
    done_bytes = int(asked.query.get("rewriteToken") or 0) + (state.rewrite_bytes_max or size_bytes)
    if done_bytes < size_bytes:
        more = {"totalBytesRewritten": str(done_bytes), "objectSize": str(size_bytes), "done": False}
        return json_answer(
            asked, {"kind": "storage#rewriteResponse", **more, "rewriteToken": str(done_bytes)}
        )
    bucket, made = _rewritten(state, asked, names)
    row = {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": str(len(made.data)),
        "objectSize": str(len(made.data)),
        "done": True,
        "resource": object_resource(bucket, made, asked.base_url),
    }
    return json_answer(asked, row)


def copy(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    bucket, made = _rewritten(state, asked, names)
    return json_answer(asked, object_resource(bucket, made, asked.base_url))
