"""The XML API, as far as obstore speaks it: GET, HEAD, PUT and DELETE of an object, and the list of a bucket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias
from xml.sax.saxutils import escape

from tests.servers.gcs.asked import Answered, Asked
from tests.servers.gcs.bucket import Wish
from tests.servers.gcs.conditions import generation_of, of_headers
from tests.servers.gcs.objects_json import media
from tests.servers.gcs.refusals import condition_not_met, invalid, not_modified, not_served
from tests.servers.gcs.resources import hashes_of
from tests.servers.gcs.state import State
from tests.servers.gcs.times import http_date, text_of

XML = "application/xml; charset=UTF-8"
Method: TypeAlias = Callable[[State, Asked, tuple[str, ...]], Answered]


def route(asked: Asked) -> tuple[str, Method, tuple[str, ...]]:
    """As ``json_api.route``. The name of an object is all that follows the bucket's."""
    bucket, name = asked.path[0], "/".join(asked.path[1:])
    if not name:
        if asked.method == "GET" and asked.query.get("list-type") == "2":
            return "storage.objects.list", _list, (bucket,)
        raise not_served(f"{asked.method} of a bucket in XML, but for list-type=2")
    if asked.query.keys() & {"uploads", "uploadId"}:
        raise not_served("multipart uploads in XML")
    methods: dict[str, tuple[str, Method]] = {
        "GET": ("storage.objects.get", _get),
        "HEAD": ("storage.objects.get", _get),
        "PUT": ("storage.objects.insert", _put),
        "DELETE": ("storage.objects.delete", _delete),
    }
    if asked.method not in methods:
        raise not_served(f"{asked.method} of an object in XML")
    return *methods[asked.method], (bucket, name)


def _get(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.get")
    found = state.bucket(names[0]).find(names[1], generation_of(asked.query))
    of_headers(asked.headers).check(found, is_read=True)
    etag = f'"{found.etag}"'
    if asked.headers.get("if-match", etag) not in (etag, "*"):
        raise condition_not_met()
    if asked.headers.get("if-none-match") in (etag, "*"):
        raise not_modified()
    answer = media(asked, found)
    more = {"ETag": etag, "Last-Modified": http_date(found.updated_ms)}
    return replace(answer, headers={**(answer.headers or {}), **more})


def _put(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    bucket = state.bucket(names[0])
    state.allow_write(asked.authorization, bucket, names[1])
    if "x-goog-copy-source" in asked.headers:
        raise not_served("copies in XML")
    hashes = hashes_of(asked.headers)
    wish = Wish(
        content_type=asked.headers.get("content-type", "application/octet-stream"),
        storage_class=asked.headers.get("x-goog-storage-class"),
        metadata={
            key.removeprefix("x-goog-meta-"): value
            for key, value in asked.headers.items()
            if key.startswith("x-goog-meta-")
        },
        crc32c=hashes.crc32c,
        md5=hashes.md5,
    )
    made = bucket.put(names[1], asked.body, wish, of_headers(asked.headers), state.now_ms())
    headers = {"ETag": f'"{made.etag}"', "x-goog-generation": str(made.generation)}
    headers |= {"x-goog-hash": f"crc32c={made.crc32c},md5={made.md5}", "x-goog-metageneration": "1"}
    return Answered(200, b"", headers, XML)


def _delete(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.delete")
    bucket = state.bucket(names[0])
    bucket.delete(names[1], generation_of(asked.query), of_headers(asked.headers), state.now_ms())
    return Answered(204, b"", None, XML)


def _list(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.objects.list")
    bucket, query = state.bucket(names[0]), asked.query
    if query.get("delimiter"):
        raise not_served("a delimiter in an XML list")
    page = int(query.get("max-keys") or state.page_max)
    if page < 1:
        raise invalid("Invalid argument.")
    after, token = query.get("start-after", ""), query.get("continuation-token", "")
    start = bytes.fromhex(token).decode() if token else after
    found = [each for each in bucket.names(query.get("prefix", ""), start) if token or each.name > after]
    rows, rest = found[: min(page, state.page_max)], found[min(page, state.page_max) :]
    body = "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>"
    body += f"<Name>{bucket.name}</Name><Prefix>{escape(query.get('prefix', ''))}</Prefix>"
    body += f"<KeyCount>{len(rows)}</KeyCount><IsTruncated>{str(bool(rest)).lower()}</IsTruncated>"
    if rest:
        body += f"<NextContinuationToken>{rest[0].name.encode().hex()}</NextContinuationToken>"
    for each in rows:
        body += f"<Contents><Key>{escape(each.name)}</Key><Generation>{each.generation}</Generation>"
        body += f"<MetaGeneration>{each.metageneration}</MetaGeneration>"
        body += f"<LastModified>{text_of(each.updated_ms)}</LastModified><ETag>&quot;{each.etag}&quot;</ETag>"
        body += f"<Size>{len(each.data)}</Size></Contents>"
    return Answered(200, (body + "</ListBucketResult>").encode(), None, XML)
