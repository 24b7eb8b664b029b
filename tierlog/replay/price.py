"""What the reads of a plan cost by list price."""

from __future__ import annotations

from tiering.objects.classes import StorageClass
from tierlog.admin.prices import GB, prices_of
from tierlog.replay.plan import Plan, SegmentRead

PROVIDERS = {"s3": "s3", "gs": "gcs"}


def price_of(plan: Plan) -> float | None:
    """US dollars for GETs and retrieval; None where the store has no list price. Traffic out of the region is not in it."""
    total = 0.0
    for part in plan.partitions:
        for read in part.reads:
            if not isinstance(read, SegmentRead):
                continue
            provider = PROVIDERS.get(read.store.partition(":")[0])
            if provider is None:
                return None
            price = prices_of(provider)[StorageClass(read.entry.storage_class).label]
            total += read.gets * price.per_1000_reads / 1_000 + read.size_bytes * price.retrieval_per_gb / GB
    return total
