"""The JSON API: buckets, objects, uploads. Each function answers one method of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from tests.servers.gcs.asked import Answered, Asked
from tests.servers.gcs.bucket import Bucket, Generation, Wish, check_class
from tests.servers.gcs.conditions import generation_of, of_query
from tests.servers.gcs.refusals import Refused, invalid, not_served, required
from tests.servers.gcs.resources import (
    bucket_resource,
    hashes_of,
    object_resource,
    only,
    parsed,
    parts_of,
    wish_of,
)
from tests.servers.gcs.state import State

Method: TypeAlias = Callable[[State, Asked, tuple[str, ...]], Answered]


def route(asked: Asked) -> tuple[str, Method, tuple[str, ...]]:
    """The method's name, its function, and the names in the path."""
    path, verb = asked.path, asked.method
    match path:
        case ("upload", "storage", "v1", "b", bucket, "o"):
            kind = "storage.objects.insert"
            if "upload_id" in asked.query:
                return "upload.part" if verb == "PUT" else "upload.cancel", _upload_part, (bucket,)
            return kind, _insert, (bucket,)
        case ("storage" | "download", *_):
            return _route_below(path[path.index("b") :] if "b" in path else path, verb)
    raise not_served("/".join(path))


def _route_below(path: tuple[str, ...], verb: str) -> tuple[str, Method, tuple[str, ...]]:
    match verb, path:
        case ("GET", ("b",)):
            return "storage.buckets.list", _list_buckets, ()
        case ("POST", ("b",)):
            return "storage.buckets.insert", _insert_bucket, ()
        case ("GET", ("b", bucket)):
            return "storage.buckets.get", _get_bucket, (bucket,)
        case ("PATCH" | "PUT", ("b", bucket)):
            return "storage.buckets.patch", _patch_bucket, (bucket,)
        case ("DELETE", ("b", bucket)):
            return "storage.buckets.delete", _delete_bucket, (bucket,)
        case ("GET", ("b", bucket, "iam", "testPermissions")):
            return "storage.buckets.testIamPermissions", _test_permissions, (bucket,)
        case ("GET", ("b", bucket, "o")):
            return "storage.objects.list", _list, (bucket,)
        case ("GET", ("b", bucket, "o", name)):
            return "storage.objects.get", _get, (bucket, name)
        case ("PATCH", ("b", bucket, "o", name)):
            return "storage.objects.patch", _patch, (bucket, name)
        case ("DELETE", ("b", bucket, "o", name)):
            return "storage.objects.delete", _delete, (bucket, name)
        case ("POST", ("b", bucket, "o", name, "restore")):
            return "storage.objects.restore", _restore, (bucket, name)
        case ("POST", ("b", bucket, "o", name, "rewriteTo" | "copyTo", "b", to, "o", onto)):
            is_copy = path[4] == "copyTo"
            return "storage.objects.rewrite", _copy if is_copy else _rewrite, (bucket, name, to, onto)
    raise not_served(f"{verb} {'/'.join(path)}")


def _answer(asked: Asked, row: dict[str, Any], status: int = 200) -> Answered:
    return Answered(status, json.dumps(only(row, asked.query.get("fields", ""))).encode())


# -- buckets


def _list_buckets(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.list")
    rows = [bucket_resource(state.buckets[name], asked.base_url) for name in sorted(state.buckets)]
    return _answer(asked, {"kind": "storage#buckets", "items": rows})


def _insert_bucket(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.create")
    if "project" not in asked.query:
        raise required("Required parameter: project")
    row = parsed(asked.body)
    if not row.get("name"):
        raise required("Required")
    bucket = state.make_bucket(row.pop("name"), **row)
    return _answer(asked, bucket_resource(bucket, asked.base_url))


def _get_bucket(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.get")
    bucket = state.bucket(names[0])
    of_query(asked.query).check(_of_bucket(bucket), is_read=True)
    return _answer(asked, bucket_resource(bucket, asked.base_url))


def _patch_bucket(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.update")
    bucket = state.bucket(names[0])
    of_query(asked.query).check(_of_bucket(bucket), is_read=False)
    bucket.change(parsed(asked.body))
    return _answer(asked, bucket_resource(bucket, asked.base_url))


def _delete_bucket(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.delete")
    bucket = state.bucket(names[0])
    if bucket.live:
        raise Refused(409, "conflict", "BucketNotEmpty", "The bucket you tried to delete is not empty.")
    del state.buckets[names[0]]
    return Answered(204)


def _test_permissions(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "")
    state.bucket(names[0])
    wanted = asked.lists.get("permissions", ())
    held = [each for each in wanted if each not in state.denied]
    row: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
    return _answer(asked, row | ({"permissions": held} if held else {}))


class _OfBucket:
    """A bucket has a metageneration and no generation."""

    def __init__(self, metageneration: int) -> None:
        self.generation, self.metageneration = -1, metageneration


def _of_bucket(bucket: Bucket) -> _OfBucket:
    return _OfBucket(bucket.metageneration)


# -- objects


def _list(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
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
    return _answer(asked, row)


def _get(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
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
    return _answer(asked, object_resource(bucket, found, asked.base_url))


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


def _patch(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.update")
    bucket = state.bucket(names[0])
    found = bucket.find(names[1], generation_of(asked.query))
    of_query(asked.query).check(found, is_read=False)
    bucket.patch(found, wish_of(parsed(asked.body), found.wish), state.now_ms())
    return _answer(asked, object_resource(bucket, found, asked.base_url))


def _delete(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.delete")
    bucket = state.bucket(names[0])
    bucket.delete(names[1], generation_of(asked.query), of_query(asked.query), state.now_ms())
    return Answered(204)


def _restore(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.restore")
    state.allow(asked.authorization, "storage.objects.create")
    bucket = state.bucket(names[0])
    made = bucket.restore(names[1], generation_of(asked.query), of_query(asked.query), state.now_ms())
    return _answer(asked, object_resource(bucket, made, asked.base_url))


def _rewritten(state: State, asked: Asked, names: tuple[str, ...]) -> tuple[Bucket, Generation]:
    """The copy; its class is the one that the body names, or the destination bucket's."""
    state.allow(asked.authorization, "storage.objects.get")
    source, destination = state.bucket(names[0]), state.bucket(names[2])
    _allow_write(state, asked, destination, names[3])
    found = source.find(names[1], generation_of(asked.query, "sourceGeneration"))
    of_query(asked.query, "Source").check(found, is_read=False)
    row = parsed(asked.body)
    before = replace(
        found.wish, storage_class=None, temporary_hold=False, event_hold=False, retain_until_ms=None
    )
    wish = replace(wish_of(row, None if row.get("contentType") else before), crc32c=None, md5=None)
    made = destination.put(names[3], found.data, wish, of_query(asked.query), state.now_ms())
    return destination, made


def _rewrite(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    """In several calls where one does not get it done: the token says how far it has come."""
    state.allow(asked.authorization, "storage.objects.get")
    size_bytes = len(
        state.bucket(names[0]).find(names[1], generation_of(asked.query, "sourceGeneration")).data
    )
    done_bytes = int(asked.query.get("rewriteToken") or 0) + (state.rewrite_bytes_max or size_bytes)
    if done_bytes < size_bytes:
        more = {"totalBytesRewritten": str(done_bytes), "objectSize": str(size_bytes), "done": False}
        return _answer(asked, {"kind": "storage#rewriteResponse", **more, "rewriteToken": str(done_bytes)})
    bucket, made = _rewritten(state, asked, names)
    row = {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": str(len(made.data)),
        "objectSize": str(len(made.data)),
        "done": True,
        "resource": object_resource(bucket, made, asked.base_url),
    }
    return _answer(asked, row)


def _copy(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    bucket, made = _rewritten(state, asked, names)
    return _answer(asked, object_resource(bucket, made, asked.base_url))


def _allow_write(state: State, asked: Asked, bucket: Bucket, name: str) -> None:
    """An overwrite needs the permission to delete, too."""
    state.allow(asked.authorization, "storage.objects.create")
    if name in bucket.live:
        state.allow(asked.authorization, "storage.objects.delete")


# -- uploads


def _insert(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
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
    _allow_write(state, asked, bucket, name)
    given = hashes_of(asked.headers)
    wish = wish_of({"contentType": media_type, **row})
    wish = replace(wish, crc32c=wish.crc32c or given.crc32c, md5=wish.md5 or given.md5)
    if kind == "resumable":
        return _begin(state, asked, bucket, name, wish)
    made = bucket.put(name, data, wish, of_query(asked.query), state.now_ms())
    return _answer(asked, object_resource(bucket, made, asked.base_url))


def _begin(state: State, asked: Asked, bucket: Bucket, name: str, wish: Wish) -> Answered:
    announced = asked.headers.get("x-upload-content-length")
    size_bytes = int(announced) if announced else None
    check_class(wish.storage_class)
    upload_id = state.uploads.begin(bucket, name, wish, of_query(asked.query), size_bytes)
    where = f"{asked.base_url}/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&upload_id={upload_id}"
    return Answered(200, b"", {"Location": where, "X-GUploader-UploadID": upload_id})


def _upload_part(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
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
        return _answer(asked, object_resource(session.bucket, made, asked.base_url))
    have = len(session.data)
    return Answered(308, b"", {"Range": f"bytes=0-{have - 1}"} if have else {})
