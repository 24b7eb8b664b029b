"""What the reads of a plan cost by list price."""

from __future__ import annotations

from decimal import Decimal

from tiering.cost.prices import GB
from tiering.objects.classes import StorageClass
from tierlog.admin.cost.price_books import book_of
from tierlog.replay.plan import Plan, SegmentRead

PROVIDERS = {"s3": "s3", "gs": "gcs"}


def price_of(plan: Plan) -> float | None:
    """US dollars for GETs and retrieval; None where the store has no list price. Traffic out of the region is not in it."""
    total = Decimal(0)
    for part in plan.partitions:
        for read in part.reads:
            if not isinstance(read, SegmentRead):
                continue
            provider = PROVIDERS.get(read.store.partition(":")[0])
            if provider is None:
                return None
            price = book_of(provider).class_of(StorageClass(read.entry.storage_class).label)
            total += read.gets * price.request("get")
            total += Decimal(read.size_bytes) / GB * price.retrieval_per_gb
    return float(total)
