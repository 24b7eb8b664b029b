"""Opens a store from a URL and Kafka-style options: knows all backends, imports only the requested one.

======================================  ==========================================================
``dir:///var/lib/tierlog/objects``      a directory (``file://`` is the same)
``s3://bucket/prefix?region=eu-west-1`` S3 and its kin
``gs://bucket/prefix``                  Google Cloud Storage
``memory://``                           this process, for tests
======================================  ==========================================================

Options come from the URL's query or from ``options``, which wins; the error for an unknown one names the nearest.
When neither names S3 credentials or the region, they come from AWS's usual places, the environment first
(``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``). Those for Google are Application
Default Credentials (``GOOGLE_APPLICATION_CREDENTIALS``, gcloud's, the machine's own), or the file that ``key.file``
names.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tiering.errors import Misconfigured
from tiering.metering.accounts import Accounts
from tiering.metering.meter import Meter
from tiering.objects.classes import GCS_CLASSES, S3_CLASSES, ClassNames, StorageClass
from tiering.objects.delayed import DelayedStore
from tiering.objects.gcs.config import PART_UNIT_BYTES, GcsConfig
from tiering.objects.measured import MeasuredStore, StoreStats
from tiering.objects.port import ObjectStore, check_prefix
from tiering.objects.retrying import RetryingStore, RetryPolicy
from tiering.objects.s3.config import PART_BYTES_MIN, S3Config
from tiering.objects.throttled import ThrottledStore, TokenBucket
from tiering.objects.wrapping import WrappedStore


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _count(text: str) -> int:
    if int(text) < 0:
        raise ValueError("a number of at least 0")
    return int(text)


@dataclass(frozen=True, slots=True)
class _Option:
    parse: Callable[[str], Any]
    default: Any


COMMON_OPTIONS = {
    "retry.attempts": _Option(_count, 6),
    "retry.total.ms": _Option(_count, 60_000),
    "request.timeout.ms": _Option(_count, 30_000),
    "upload.bytes.per.second": _Option(_count, 0),
    "download.bytes.per.second": _Option(_count, 0),
    "get.delay.ms": _Option(_count, 0),
    "get.stream.bytes.per.second": _Option(_count, 0),
}
DIRECTORY_OPTIONS = {"durable": _Option(_boolean, True), "threads": _Option(_count, 8)}
S3_OPTIONS = {
    "region": _Option(str, ""),
    "endpoint": _Option(str, ""),
    "path.style": _Option(_boolean, False),
    "access.key.id": _Option(str, ""),
    "secret.access.key": _Option(str, ""),
    "session.token": _Option(str, ""),
    "profile": _Option(str, ""),
    "unsigned.payload": _Option(_boolean, True),
    "part.bytes": _Option(_count, 0),
    "connect.timeout.ms": _Option(_count, 3_000),
}
GCS_OPTIONS = {
    "endpoint": _Option(str, ""),
    "key.file": _Option(str, ""),
    "anonymous": _Option(_boolean, False),
    "part.bytes": _Option(_count, 8 * 1024 * 1024),
    "connect.timeout.ms": _Option(_count, 3_000),
}
_WRAPPERS = (DelayedStore, MeasuredStore, RetryingStore, ThrottledStore)
_SCHEMES: dict[str, dict[str, _Option]] = {
    "dir": DIRECTORY_OPTIONS,
    "file": DIRECTORY_OPTIONS,
    "s3": S3_OPTIONS,
    "gs": GCS_OPTIONS,
    "memory": {},
}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A parsed URL; ``options`` holds every known option, those not given with their default."""

    scheme: str
    bucket: str
    path: str
    options: dict[str, Any] = field(repr=False)


def parse_address(url: str, options: Mapping[str, str] | None = None) -> StoreAddress:
    """Raises ``Misconfigured`` with one line that says what is wrong and where."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise Misconfigured(f"object store URL {url!r}: the scheme must be one of {', '.join(_SCHEMES)}")
    known = COMMON_OPTIONS | _SCHEMES[parts.scheme]
    values = {name: option.default for name, option in known.items()}
    for name, text in [*parse_qsl(parts.query, keep_blank_values=True), *(options or {}).items()]:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise Misconfigured(f"object store {parts.scheme}: unknown option {name!r}{hint}")
        try:
            values[name] = known[name].parse(text)
        except ValueError as error:
            raise Misconfigured(f"object store option {name}={text!r}: {error}") from None
    path = unquote(parts.path)
    if parts.scheme in ("dir", "file"):
        path = parts.netloc + path  # So dir://data/objects is a relative path, as one would expect.
        if not path:
            raise Misconfigured(f"object store URL {url!r} names no directory")
    elif parts.scheme in ("s3", "gs"):
        if not parts.netloc:
            raise Misconfigured(f"object store URL {url!r} names no bucket")
        path = path.strip("/")
        check_prefix(path + "/" if path else "")
    return StoreAddress(parts.scheme, parts.netloc, path, values)


def s3_config(address: StoreAddress) -> S3Config:
    """The configuration that both the byte path and the doctor use."""
    options = address.options
    if 0 < options["part.bytes"] < PART_BYTES_MIN:
        raise Misconfigured(
            f"object store option part.bytes: at least {PART_BYTES_MIN}, or 0 for a quarter of the object"
        )
    return S3Config(
        bucket=address.bucket,
        prefix=address.path,
        region=options["region"] or _region(),
        endpoint=options["endpoint"],
        path_style=options["path.style"] or bool(options["endpoint"]),
        access_key_id=options["access.key.id"],
        secret_access_key=options["secret.access.key"],
        session_token=options["session.token"],
        profile=options["profile"],
        unsigned_payload=options["unsigned.payload"],
        part_bytes=options["part.bytes"],
        request_timeout_ms=options["request.timeout.ms"],
        connect_timeout_ms=options["connect.timeout.ms"],
    )


def gcs_config(address: StoreAddress) -> GcsConfig:
    options = address.options
    if options["part.bytes"] < PART_UNIT_BYTES or options["part.bytes"] % PART_UNIT_BYTES:
        raise Misconfigured(f"object store option part.bytes: a multiple of {PART_UNIT_BYTES}")
    return GcsConfig(
        bucket=address.bucket,
        prefix=address.path,
        endpoint=options["endpoint"].rstrip("/"),
        key_file=options["key.file"],
        anonymous=options["anonymous"],
        part_bytes=options["part.bytes"],
        request_timeout_ms=options["request.timeout.ms"],
        connect_timeout_ms=options["connect.timeout.ms"],
    )


def _region() -> str:
    environ = os.environ
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def class_names_of(url: str) -> dict[StorageClass, ClassNames]:
    """What a store calls its storage classes; empty for one that has no classes."""
    scheme = parse_address(url).scheme
    return {"s3": S3_CLASSES, "memory": S3_CLASSES, "gs": GCS_CLASSES}.get(scheme, {})


def opens_elsewhere(url: str, store: ObjectStore) -> bool:
    """Whether another process that opens the URL gets the same objects in the same way: none of this process's memory, and
    no wrapper but those of ``open_store``."""
    inner = store
    while isinstance(inner, WrappedStore):
        if type(inner) not in _WRAPPERS:
            return False
        inner = inner.inner
    return parse_address(url).scheme != "memory"


def open_backend(
    address: StoreAddress, *, writes: bool = True, accounts: Accounts | None = None
) -> ObjectStore:
    """The bare store, without any wrapper. Creates the directory if ``writes``; does not talk to a bucket yet. ``accounts``:
    where a bucket's client counts its requests."""
    meter = Meter(accounts)
    if address.scheme == "s3":
        from tiering.objects.s3.store import S3ObjectStore

        return S3ObjectStore(s3_config(address), meter)
    if address.scheme == "gs":
        return _open_gcs(gcs_config(address), meter)
    if address.scheme == "memory":
        from tiering.objects.memory import MemoryStore

        return MemoryStore()
    from tiering.objects.directory import DirectoryStore

    options = address.options
    threads = max(1, options["threads"])
    return DirectoryStore(Path(address.path), durable=options["durable"], threads=threads, writes=writes)


def put_requests_as_s3(size_bytes: int) -> int:
    """The requests in which S3 would take an object of this size."""
    return S3Config("").put_requests(size_bytes)


def _open_gcs(config: GcsConfig, meter: Meter) -> ObjectStore:
    try:
        from tiering.objects.gcs.store import GcsObjectStore
    except ImportError as error:
        raise Misconfigured(f"object store gs: {error}; install it: pip install 'tierlog[gcs]'") from None
    return GcsObjectStore(config, meter)


def open_store(
    url: str,
    options: Mapping[str, str] | None = None,
    *,
    stats: StoreStats | None = None,
    writes: bool = True,
) -> ObjectStore:
    """A store ready for use: throttled if requested, measured into ``stats``, retried. Raises ``Misconfigured``
    for an invalid URL or option.

    ``get.delay.ms`` and ``get.stream.bytes.per.second`` delay reads (benchmarks); the measured latency includes that.
    """
    address = parse_address(url, options)
    values = address.options
    stats = stats or StoreStats()
    store = open_backend(address, writes=writes, accounts=stats.accounts)
    delay_ms, stream_rate = values["get.delay.ms"], values["get.stream.bytes.per.second"]
    if delay_ms or stream_rate:
        store = DelayedStore(store, get_delay_ms=delay_ms, stream_bytes_per_second=stream_rate)
    is_bucket = address.scheme in ("s3", "gs")
    store = MeasuredStore(store, stats, put_requests=None if is_bucket else put_requests_as_s3)
    if values["upload.bytes.per.second"] or values["download.bytes.per.second"]:
        store = ThrottledStore(
            store,
            upload=TokenBucket(values["upload.bytes.per.second"]),
            download=TokenBucket(values["download.bytes.per.second"]),
        )
    policy = RetryPolicy(
        attempts_max=max(1, values["retry.attempts"]),
        total_s=values["retry.total.ms"] / 1_000,
        attempt_timeout_s=values["request.timeout.ms"] / 1_000,
    )
    return RetryingStore(store, policy)
