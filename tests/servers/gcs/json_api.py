"""The JSON API: which of its methods a request asks for, and the function that answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tests.servers.gcs import buckets_json, objects_json, uploads_json
from tests.servers.gcs.asked import Answered, Asked
from tests.servers.gcs.refusals import not_served
from tests.servers.gcs.state import State

Method: TypeAlias = Callable[[State, Asked, tuple[str, ...]], Answered]


def route(asked: Asked) -> tuple[str, Method, tuple[str, ...]]:
    """The method's name, its function, and the names in the path."""
    path, verb = asked.path, asked.method
    match path:
        case ("upload", "storage", "v1", "b", bucket, "o"):
            kind = "storage.objects.insert"
            if "upload_id" in asked.query:
                return "upload.part" if verb == "PUT" else "upload.cancel", uploads_json.part, (bucket,)
            return kind, uploads_json.insert, (bucket,)
        case ("storage" | "download", *_):
            return _route_below(path[path.index("b") :] if "b" in path else path, verb)
    raise not_served("/".join(path))


def _route_below(path: tuple[str, ...], verb: str) -> tuple[str, Method, tuple[str, ...]]:
    match verb, path:
        case ("GET", ("b",)):
            return "storage.buckets.list", buckets_json.list_, ()
        case ("POST", ("b",)):
            return "storage.buckets.insert", buckets_json.insert, ()
        case ("GET", ("b", bucket)):
            return "storage.buckets.get", buckets_json.get, (bucket,)
        case ("PATCH" | "PUT", ("b", bucket)):
            return "storage.buckets.patch", buckets_json.patch, (bucket,)
        case ("DELETE", ("b", bucket)):
            return "storage.buckets.delete", buckets_json.delete, (bucket,)
        case ("GET", ("b", bucket, "iam", "testPermissions")):
            return "storage.buckets.testIamPermissions", buckets_json.test_permissions, (bucket,)
        case ("GET", ("b", bucket, "o")):
            return "storage.objects.list", objects_json.list_, (bucket,)
        case ("GET", ("b", bucket, "o", name)):
            return "storage.objects.get", objects_json.get, (bucket, name)
        case ("PATCH", ("b", bucket, "o", name)):
            return "storage.objects.patch", objects_json.patch, (bucket, name)
        case ("DELETE", ("b", bucket, "o", name)):
            return "storage.objects.delete", objects_json.delete, (bucket, name)
        case ("POST", ("b", bucket, "o", name, "restore")):
            return "storage.objects.restore", objects_json.restore, (bucket, name)
        case ("POST", ("b", bucket, "o", name, "rewriteTo" | "copyTo", "b", to, "o", onto)):
            is_copy = path[4] == "copyTo"
            return (
                "storage.objects.rewrite",
                objects_json.copy if is_copy else objects_json.rewrite,
                (bucket, name, to, onto),
            )
    raise not_served(f"{verb} {'/'.join(path)}")
