"""Where the URL of an object store points, and which of two get in each other's way. Pure.

Two stores that a cluster uses must be apart: in nested prefixes, listings and clean-ups of the outer one reach into the
inner one. The same place under two URLs would be opened twice, perhaps with other credentials.
"""

from __future__ import annotations

import os.path
from collections.abc import Collection
from typing import NamedTuple

from tiering.objects.opening import parse_address
from tierlog.broker.offload.bucket import url_problem
from tierlog.config.places import OBJECT_STORE, without_query

DIRECTORIES = ("dir", "file")


class Place(NamedTuple):
    """``parts``: of the path or prefix, outermost first."""

    scheme: str
    server: str
    bucket: str
    parts: tuple[str, ...]

    def is_within(self, other: Place) -> bool:
        return self[:3] == other[:3] and self.parts[: len(other.parts)] == other.parts


def place_of(url: str) -> Place:
    """Raises ``Misconfigured`` for a URL that has an error."""
    address = parse_address(url)
    path = address.path
    scheme = "dir" if address.scheme in DIRECTORIES else address.scheme
    if scheme == "dir":
        path = os.path.abspath(path)
    server = str(address.options.get("endpoint", "")).rstrip("/")
    bucket = address.bucket if scheme in ("s3", "gs") else ""
    return Place(scheme, server, bucket, tuple(part for part in path.split("/") if part))


def problem_beside(url: str, others: Collection[str]) -> str | None:
    """Why a topic may not have this store beside those that the cluster uses, the brokers' own among them."""
    wrong = url_problem(url)
    if wrong is not None:
        return f"{OBJECT_STORE}={without_query(url)}: {wrong}"
    place = place_of(url)
    for other in sorted(others):
        if other == url or url_problem(other) is not None:
            continue
        there = place_of(other)
        if there == place:
            why = f"this cluster uses it as {other}: name it by that URL"
        elif place.is_within(there):
            why = f"it lies within {without_query(other)}, which this cluster uses: name a prefix beside it"
        elif there.is_within(place):
            why = f"{without_query(other)}, which this cluster uses, lies within it: name a prefix beside it"
        else:
            continue
        return f"{OBJECT_STORE}={without_query(url)}: {why}"
    return None
