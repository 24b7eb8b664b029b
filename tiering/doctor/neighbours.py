"""Whose bucket and prefix this is, and whether other clusters lie around it or in it.

Of clusters whose prefixes are nested, the outer one's permissions, lifecycle rules and clean-ups reach into the inner one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

from tiering.errors import (
    AccessDenied,
    ForeignBucket,
    InvalidKey,
    NotFound,
    ObjectStoreError,
    UnsupportedFormat,
)
from tiering.keys import CLUSTER_MARKER, check_cluster_marker, marked_cluster
from tiering.objects.findings import Finding, finding_of
from tiering.objects.port import ObjectStore, check_prefix

LOOKS_MAX = 100
"""Folders that are looked at in search of other clusters: as many requests."""
DEPTH_MAX = 3
_OWN = "meta"
_REMEDY = "give each cluster a prefix that is no folder of another's, and move one of them"


def outer_prefixes(prefix: str) -> list[str]:
    """Those around it, the bucket itself first: of ``a/b/c`` these are ``""``, ``a`` and ``a/b``."""
    parts = prefix.split("/") if prefix else []
    return ["/".join(parts[:count]) for count in range(len(parts))]


async def owner(store: ObjectStore, cluster_id: str) -> list[Finding]:
    """``cluster_id``: the one that is to use it, or empty."""
    try:
        _, found = await store.get(CLUSTER_MARKER)
        if cluster_id:
            check_cluster_marker(bytes(found), cluster_id)
        named = marked_cluster(bytes(found))
    except NotFound:
        return [Finding("cluster", "ok", "no cluster has claimed it yet")]
    except (ForeignBucket, UnsupportedFormat) as error:
        return [Finding("cluster", "error", str(error), "name the bucket and prefix of this cluster")]
    except ObjectStoreError as error:
        return [finding_of(error)]
    return [Finding("cluster", "ok", f"claimed by cluster {named}")]


async def neighbours(store: ObjectStore, outer: Mapping[str, ObjectStore]) -> list[Finding]:
    """``outer``: the stores around this one by where they are, as messages name them. Nothing where listing is refused: that
    is named elsewhere."""
    found: list[Finding] = []
    try:
        for place, each in outer.items():
            if await _has_marker(each, ""):
                message = f"a cluster lies at {place}, around this prefix"
                found.append(Finding("neighbours", "warning", message, _REMEDY))
        looks = [LOOKS_MAX]
        async for folder in _inner(store, "", DEPTH_MAX, looks):
            message = f"another cluster lies below this prefix, at {folder}"
            found.append(Finding("neighbours", "warning", message, _REMEDY))
    except AccessDenied:
        return found
    except ObjectStoreError as error:
        return [*found, finding_of(error, level="warning")]
    looked = "" if looks[0] > 0 else f" in the first {LOOKS_MAX} folders"
    return found or [Finding("neighbours", "ok", f"no other cluster around or below{looked}")]


async def _has_marker(store: ObjectStore, folder: str) -> bool:
    """By a listing: reading is allowed below the own prefix only."""
    before = f"{folder}{CLUSTER_MARKER}"[:-1]
    page = await store.list(f"{folder}{_OWN}/", start_after=before, limit=1)
    return any(each.key == f"{folder}{CLUSTER_MARKER}" for each in page)


async def _inner(store: ObjectStore, below: str, depth: int, looks: list[int]) -> AsyncIterator[str]:
    """Folders with a marker of their own, but for this one's. ``looks``: how many may still be taken."""
    async for folder in _folders(store, below, looks):
        if folder == f"{_OWN}/" or looks[0] <= 0:
            continue
        looks[0] -= 1
        if await _has_marker(store, folder):
            yield folder
        elif depth > 1 and not _is_spread(folder):
            async for inner in _inner(store, folder, depth - 1, looks):
                yield inner


def _is_spread(folder: str) -> bool:
    """Whether it is one of those that partitions are spread over: what lies in them is ours."""
    name = folder.rstrip("/").rpartition("/")[2]
    return len(name) == 4 and set(name) <= set("0123456789abcdef")


async def _folders(store: ObjectStore, below: str, looks: list[int]) -> AsyncIterator[str]:
    """One listing each, of a single object: the next begins behind all that lies in the folder."""
    start_after = ""
    while looks[0] > 0:
        looks[0] -= 1
        page = await store.list(below, start_after=start_after, limit=1)
        if not page:
            return
        name, slash, _ = page[0].key.removeprefix(below).partition("/")
        start_after = page[0].key
        if slash:
            start_after = f"{below}{name}0"  # The character behind the slash.
            if _is_key(f"{below}{name}/"):
                yield f"{below}{name}/"


def _is_key(prefix: str) -> bool:
    try:
        check_prefix(prefix)
    except InvalidKey:
        return False
    return True


def places(bucket_url: str, prefixes: Iterable[str]) -> dict[str, str]:
    """How messages name the outer prefixes: by URL."""
    return {prefix: f"{bucket_url}/{prefix}" if prefix else bucket_url for prefix in prefixes}
