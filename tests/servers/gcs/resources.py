"""Objects and buckets as JSON, and JSON as what a writer wishes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.servers.gcs.bucket import Bucket, Generation, Wish
from tests.servers.gcs.refusals import invalid
from tests.servers.gcs.times import ms_of, text_of


def object_resource(bucket: Bucket, found: Generation, base_url: str) -> dict[str, Any]:
    path = f"/storage/v1/b/{bucket.name}/o/{found.name.replace('/', '%2F')}"
    row: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{bucket.name}/{found.name}/{found.generation}",
        "selfLink": base_url + path,
        "mediaLink": f"{base_url}/download{path}?generation={found.generation}&alt=media",
        "name": found.name,
        "bucket": bucket.name,
        "generation": str(found.generation),
        "metageneration": str(found.metageneration),
        "contentType": found.wish.content_type,
        "storageClass": found.storage_class,
        "size": str(len(found.data)),
        "md5Hash": found.md5,
        "crc32c": found.crc32c,
        "etag": found.etag,
        "timeCreated": text_of(found.created_ms),
        "updated": text_of(found.updated_ms),
        "timeStorageClassUpdated": text_of(found.class_ms),
        "timeFinalized": text_of(found.created_ms),
    }
    if found.wish.metadata:
        row["metadata"] = found.wish.metadata
    if found.wish.temporary_hold:
        row["temporaryHold"] = True
    if found.wish.event_hold:
        row["eventBasedHold"] = True
    if found.wish.retain_until_ms is not None:
        row["retention"] = {"mode": "Unlocked", "retainUntilTime": text_of(found.wish.retain_until_ms)}
    if found.hard_delete_ms is not None and found.ended_ms is not None:
        row["softDeleteTime"], row["hardDeleteTime"] = text_of(found.ended_ms), text_of(found.hard_delete_ms)
    elif found.ended_ms is not None:
        row["timeDeleted"] = text_of(found.ended_ms)
    return row


def bucket_resource(bucket: Bucket, base_url: str) -> dict[str, Any]:
    location = str(bucket.policy["location"]).upper()
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{base_url}/storage/v1/b/{bucket.name}",
        "name": bucket.name,
        "projectNumber": "1",
        "timeCreated": text_of(bucket.created_ms),
        "updated": text_of(bucket.created_ms),
        "metageneration": str(bucket.metageneration),
        "locationType": "multi-region" if location in ("US", "EU", "ASIA") else "region",
        "etag": base64.b64encode(str(bucket.metageneration).encode()).decode(),
        **bucket.policy,
        "location": location,
    }


def wish_of(row: Mapping[str, Any], before: Wish | None = None) -> Wish:
    """From an object's resource; what it does not name stays as it was ``before``."""
    wish = before or Wish()
    if "contentType" in row:
        wish = replace(wish, content_type=row["contentType"] or "application/octet-stream")
    if "metadata" in row:
        merged = {**(wish.metadata if before else {}), **(row["metadata"] or {})}
        wish = replace(wish, metadata={key: value for key, value in merged.items() if value is not None})
    if "retention" in row:
        until = (row["retention"] or {}).get("retainUntilTime")
        wish = replace(wish, retain_until_ms=ms_of(until) if until else None)
    for key, field in (
        ("storageClass", "storage_class"),
        ("crc32c", "crc32c"),
        ("md5Hash", "md5"),
        ("temporaryHold", "temporary_hold"),
        ("eventBasedHold", "event_hold"),
    ):
        if key in row:
            wish = replace(wish, **{field: row[key]})
    return wish


def hashes_of(headers: Mapping[str, str]) -> Wish:
    """What ``x-goog-hash`` and ``Content-MD5`` say, as a wish of nothing else."""
    given = dict(
        part.strip().split("=", 1) for part in headers.get("x-goog-hash", "").split(",") if "=" in part
    )
    return Wish(crc32c=given.get("crc32c"), md5=given.get("md5") or headers.get("content-md5"))


def parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        raise invalid("Parse Error") from None
    if not isinstance(found, dict):
        raise invalid("Parse Error")
    return found


def parts_of(body: bytes, content_type: str) -> tuple[dict[str, Any], bytes, str]:
    """The resource, the bytes and their type of a ``multipart/related`` body."""
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if boundary is None:
        raise invalid("Missing boundary in the Content-Type of a multipart upload.")
    mark = b"--" + boundary[1].encode()
    head, found, rest = body.partition(mark + b"\r\n")
    described, middle, rest = rest.partition(b"\r\n" + mark + b"\r\n")
    content, end, _ = rest.rpartition(b"\r\n" + mark + b"--")
    if head or not found or not middle or not end:
        raise invalid("Malformed multipart body.")
    media_head, _, data = content.partition(b"\r\n\r\n")
    media_type = re.search(rb"(?i)content-type: *([^\r\n]+)", media_head)
    return (
        parsed(described.partition(b"\r\n\r\n")[2]),
        data,
        media_type[1].decode() if media_type else "application/octet-stream",
    )
