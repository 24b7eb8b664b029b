"""What a look at a store is told of the cluster that is to use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tiering.objects.classes import StorageClass


@dataclass(frozen=True, slots=True)
class Wanted:
    """``cluster_id``: empty where it is not known. ``classes``: what the default of ``tierlog.tiers`` names; an object
    of each is written for a moment."""

    cluster_id: str = ""
    classes: Sequence[StorageClass] = ()
