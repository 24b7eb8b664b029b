"""Where a broker keeps things: log directories, metadata store, object store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from tierlog.config import etcd
from tierlog.config.reader import Reader
from tierlog.config.secrets import secrets_in_url

OBJECT_STORE = "tierlog.object.store"
CACHE_DIR, CACHE_BYTES = "tierlog.remote.cache.dir", "tierlog.remote.cache.max.bytes"
# URL of an object store -> the problem with it, or None.
StoreProblem: TypeAlias = Callable[[str], str | None]


def no_problem(url: str) -> None:
    """For callers that do not open the store."""


def places(reader: Reader, store_problem: StoreProblem) -> dict[str, Any]:
    name = "log.dirs" if reader.is_given("log.dirs") else "log.dir"
    dirs = tuple(path for path in reader[name] if path)
    if not dirs:
        reader.refuse(name, "is empty")
    if len({path.rstrip("/") for path in dirs}) < len(dirs):
        reader.refuse(name, "names a directory twice")
    root = dirs[0].rstrip("/") if dirs else ""
    for wrong in etcd.etcd_problems(reader.values, reader.problems.names):
        reader.refuse(wrong.name, str(wrong))
    store = _url(reader, OBJECT_STORE, f"dir:{root}/tierlog/objects")
    wrong_store = store_problem(store) if reader.is_sound(OBJECT_STORE) else None
    if wrong_store is not None:
        reader.refuse(OBJECT_STORE, wrong_store)
    _check_cache(reader, dirs, store)
    return {
        "log_dirs": dirs,
        "metadata_store": _url(reader, "metadata.store", f"sqlite:{root}/tierlog/metadata.db"),
        "tierlog_object_store": store,
    }


def _check_cache(reader: Reader, log_dirs: Sequence[str], store: str) -> None:
    """What the two properties of the disk cache say together, and about its place. The disk itself is asked at the start."""
    if not reader.is_sound(CACHE_DIR) or not reader.is_sound(CACHE_BYTES):
        return
    directory: str | None = reader[CACHE_DIR]
    if directory is None:
        if reader[CACHE_BYTES]:
            reader.refuse(CACHE_DIR, f"is missing: {CACHE_BYTES} needs a directory")
        return
    if not reader.is_given(CACHE_BYTES):
        reader.refuse(CACHE_BYTES, f"is missing: {CACHE_DIR} needs a limit (0 switches the cache off)")
    path = PurePosixPath(directory)
    objects = [store.removeprefix("dir:").partition("?")[0]] if store.startswith("dir:") else []
    for other in (*log_dirs, *objects):
        if path.is_relative_to(other) or PurePosixPath(other).is_relative_to(path):
            what = "the object store" if other in objects else "a log directory"
            reader.refuse(
                CACHE_DIR, f"{directory} and {what}, {other}, lie in one another: set another directory"
            )
            return


_SCHEMES = {
    "metadata.store": ("sqlite:", "etcd://", "memory:"),
    OBJECT_STORE: ("dir:", "s3:", "gs:", "memory:"),
}
_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS in the environment to a key file"
_AWS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) in the environment"


def _url(reader: Reader, name: str, default: str) -> str:
    url = str(reader[name] or default)
    problem = url_problem(name, url)
    if problem is not None and (reader.is_sound(name) or secrets_in_url(url)):
        reader.refuse(name, problem)
    return url


def url_problem(name: str, url: str) -> str | None:
    """What is wrong with the URL of the property, as far as its form tells."""
    secret = ", ".join(secrets_in_url(url))
    if secret:
        # The URL is shown in logs, on terminals and by DescribeConfigs.
        place = _GOOGLE if url.startswith("gs:") else _AWS
        if name == "metadata.store":
            place = "tierlog.etcd.user and tierlog.etcd.password"
        return f"{secret} must not stand in a URL that is shown in logs: set {place}"
    if not _is_place(url, _SCHEMES[name]):
        return f"expected {' or '.join(_SCHEMES[name])} and where it is"
    return None


def without_query(url: str) -> str:
    """The URL without its query, in the form that may be shown."""
    return url.partition("?")[0]


def _is_place(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether the URL has one of the schemes, and something behind it."""
    return url.startswith(schemes) and (url not in schemes or url == "memory:")
