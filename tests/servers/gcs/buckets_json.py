"""Buckets in the JSON API. Each function answers one method of it."""

from __future__ import annotations

from typing import Any

from tests.servers.gcs.asked import Answered, Asked, json_answer
from tests.servers.gcs.bucket import Bucket
from tests.servers.gcs.conditions import of_query
from tests.servers.gcs.refusals import Refused, required
from tests.servers.gcs.resources import bucket_resource, parsed
from tests.servers.gcs.state import State


def list_(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.list")
    rows = [bucket_resource(state.buckets[name], asked.base_url) for name in sorted(state.buckets)]
    return json_answer(asked, {"kind": "storage#buckets", "items": rows})


def insert(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.create")
    if "project" not in asked.query:
        raise required("Required parameter: project")
    row = parsed(asked.body)
    if not row.get("name"):
        raise required("Required")
    bucket = state.make_bucket(row.pop("name"), **row)
    return json_answer(asked, bucket_resource(bucket, asked.base_url))


def get(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.get")
    bucket = state.bucket(names[0])
    of_query(asked.query).check(_of_bucket(bucket), is_read=True)
    return json_answer(asked, bucket_resource(bucket, asked.base_url))


def patch(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.update")
    bucket = state.bucket(names[0])
    of_query(asked.query).check(_of_bucket(bucket), is_read=False)
    bucket.change(parsed(asked.body))
    return json_answer(asked, bucket_resource(bucket, asked.base_url))


def delete(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "storage.buckets.delete")
    bucket = state.bucket(names[0])
    if bucket.live:
        raise Refused(409, "conflict", "BucketNotEmpty", "The bucket you tried to delete is not empty.")
    del state.buckets[names[0]]
    return Answered(204)


def test_permissions(state: State, asked: Asked, names: tuple[str, ...]) -> Answered:
    state.allow(asked.authorization, "")
    state.bucket(names[0])
    wanted = asked.lists.get("permissions", ())
    held = [each for each in wanted if each not in state.denied]
    row: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
    return json_answer(asked, row | ({"permissions": held} if held else {}))


class _OfBucket:
    """A bucket has a metageneration and no generation."""

    def __init__(self, metageneration: int) -> None:
        self.generation, self.metageneration = -1, metageneration


def _of_bucket(bucket: Bucket) -> _OfBucket:
    return _OfBucket(bucket.metageneration)
