"""What a replay of a time would read, by storage class: told from the segments that hold it. Reads no record."""

from __future__ import annotations

from collections import defaultdict

from tiering.cost.replay import Amount
from tiering.objects.classes import label_of
from tierlog.replay.bounds import Bound, Kind
from tierlog.replay.gets import get_count
from tierlog.replay.ledger import UNCOUNTED
from tierlog.replay.plan import Plan, SegmentRead
from tierlog.replay.resolve import Origin, Request


async def planned_amounts(
    bootstrap: str | None, bucket_url: str | None, topic: str, from_ms: int, to_ms: int, get_bytes: int
) -> dict[str, Amount]:
    """Of records from ``from_ms`` to before ``to_ms``. Raises UserError."""
    origin = Origin(bootstrap, bucket_url, caller=UNCOUNTED)
    try:
        await origin.start()
        request = Request((topic,), Bound(Kind.TIME, from_ms), Bound(Kind.TIME, to_ms))
        return amounts_of(await origin.plan(request), get_bytes)
    finally:
        await origin.close()


def amounts_of(plan: Plan, get_bytes: int) -> dict[str, Amount]:
    """By class; the empty name is the brokers' disks, for what no bucket holds."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for part in plan.partitions:
        for read in part.reads:
            if isinstance(read, SegmentRead):
                total = sums[label_of(read.entry.storage_class)]
                total[1] += get_count(read.size_bytes, read.is_cut, get_bytes)
            else:
                total = sums[""]
            total[0] += read.size_bytes
    return {name: Amount(*total) for name, total in sorted(sums.items())}
