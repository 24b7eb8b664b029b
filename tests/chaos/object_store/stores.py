"""The servers that a campaign may run on, each behind a proxy that fails on command, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from minio.error import S3Error

from tests.bucket_reader import Bucket
from tests.servers.fault_proxy import FaultProxy
from tests.servers.gcs.serving import GcsServer, gcs
from tests.servers.moto import moto
from tests.servers.processes import S3Server, minio_client
from tests.servers.seaweedfs import seaweedfs

NAMES = ("seaweedfs", "moto", "gcs")
PREFIX = "chaos"
# What a request that hangs costs; the other options stay as they are by default.
OPTIONS = {"request.timeout.ms": "1000", "connect.timeout.ms": "1000", "retry.total.ms": "4000"}
COLD = {"s3": "STANDARD_IA", "gcs": "NEARLINE"}


@dataclass(frozen=True, slots=True)
class Store:
    """``url`` and ``env`` are the broker's way to it, through ``proxy``; the rest goes past the proxy."""

    url: str
    env: dict[str, str]
    proxy: FaultProxy
    classes: Callable[[], dict[str, str]]
    """Name below the prefix → the provider's name of its storage class, of all that the bucket holds."""
    get: Callable[[str], bytes]
    cold: str
    """The provider's name of the class ``infrequent``."""

    def bucket(self) -> Bucket:
        """For the reader that knows the format only."""
        return Bucket(lambda start: (name for name in self.classes() if name.startswith(start)), self.get)


@contextmanager
def store_of(name: str, directory: Path) -> Iterator[Store]:
    """Until the block ends."""
    if name == "gcs":
        with gcs() as google, FaultProxy(google.endpoint) as proxy:
            yield _on_google(google, proxy)
        return
    start = {"seaweedfs": seaweedfs, "moto": moto}[name]
    with start(directory / name) as server, FaultProxy(server.endpoint) as proxy:
        yield _on_s3(server, proxy)


def _on_s3(server: S3Server, proxy: FaultProxy) -> Store:
    client = minio_client(server)

    def classes() -> dict[str, str]:
        found = client.list_objects(server.bucket, prefix=f"{PREFIX}/", recursive=True)
        return {str(o.object_name).removeprefix(f"{PREFIX}/"): str(o.storage_class) for o in found}

    def get(name: str) -> bytes:
        try:
            answer = client.get_object(server.bucket, f"{PREFIX}/{name}")
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise
            raise KeyError(name) from None
        try:
            return bytes(answer.read())
        finally:
            answer.close()
            answer.release_conn()

    env = {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_REGION": server.region,
    }
    return Store(_url("s3", server.bucket, proxy), env, proxy, classes, get, COLD["s3"])


def _on_google(server: GcsServer, proxy: FaultProxy) -> Store:
    def classes() -> dict[str, str]:
        live = dict(server.holds().live)
        return {name.removeprefix(f"{PREFIX}/"): each.storage_class for name, each in live.items()}

    def get(name: str) -> bytes:
        return server.holds().live[f"{PREFIX}/{name}"].data

    return Store(_url("gs", server.bucket, proxy), {}, proxy, classes, get, COLD["gcs"])


def _url(scheme: str, bucket: str, proxy: FaultProxy) -> str:
    options = {"endpoint": proxy.endpoint, **OPTIONS}
    if scheme == "gs":
        options["anonymous"] = "true"
    return f"{scheme}://{bucket}/{PREFIX}?{urlencode(options, safe=':/')}"
