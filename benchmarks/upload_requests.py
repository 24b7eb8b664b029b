"""Requests that S3 bills as PUTs, per GiB that a broker uploads from segments of 256 MiB: all objects counted.

    python -m benchmarks.upload_requests [--gib N]

A broker in this process, with a store that counts as S3 does and keeps no segments. Bar: 28 per GiB at most.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.unit.offload.brokers import TIERED, Running, until
from tiering.objects.measured import MeasuredStore, StoreStats
from tiering.objects.memory import MemoryStore
from tiering.objects.opening import put_requests_as_s3
from tiering.objects.port import PLAIN, Content, ObjectInfo, PutOptions
from tiering.objects.streams import pieces
from tierlog.broker.node import Broker
from tierlog.broker.offload import fit, service
from tierlog.cli.broker import embedded
from tierlog.errors import ErrorCode
from tierlog.records.records import Record, build_batch

MIB = 1 << 20
SEGMENT_BYTES = 256 * MIB
BAR = 28.0


class Sizes(MemoryStore):
    """Takes segments and remembers their sizes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: Counter[str] = Counter()
        self._segments: dict[str, ObjectInfo] = {}

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        is_segment = key.endswith(".seg")
        self.puts["segments" if is_segment else "head copies" if "/head-" in key else "others"] += 1
        if not is_segment:
            return await super().put(
                key, content, size_bytes=size_bytes, if_absent=if_absent, options=options
            )
        async for _ in pieces(key, content, size_bytes, MIB, options.crc32c):
            pass
        self._segments[key] = ObjectInfo(key, size_bytes, "1")
        return self._segments[key]

    async def head(self, key: str, *, complete: bool = False) -> ObjectInfo:
        return self._segments.get(key) or await super().head(key)


async def measure(directory: Path, gib: int) -> float:
    """PUT-class requests per GiB that was uploaded."""
    stats, sizes = StoreStats(), Sizes()
    objects = MeasuredStore(sizes, stats, put_requests=put_requests_as_s3)
    service.open_store = lambda url, stats: objects  # type: ignore[assignment]
    fit.open_store = lambda url, writes, stats: objects  # type: ignore[attr-defined]
    broker = Broker(embedded(directory, "127.0.0.1", 0, -1, []))
    await broker.start()
    try:
        running = Running(broker)
        partition = await running.create(**{**TIERED, "segment.bytes": str(SEGMENT_BYTES)})
        batch = build_batch([Record(b"", bytes(MIB - 200), 1)])
        for number in range(gib * 1024 + 8):
            assert partition.append(memoryview(bytearray(batch)), False, number).error is ErrorCode.NONE
            await asyncio.sleep(0)
        tier = await running.tiered(partition)
        tier.head_copied_ms = tier.next_check_ms = tier.next_try_ms = 0
        await until(lambda: tier.head_copied_sequence == tier.head.sequence)
        uploaded = tier.size_bytes
    finally:
        await broker.stop()
    requests = stats["put"].requests + stats["list"].requests + stats["copy"].requests
    per_gib = requests / (uploaded / (1 << 30))
    detail = ", ".join(f"{kind} {count}" for kind, count in sorted(sizes.puts.items()))
    print(f"{uploaded / MIB:.0f} MiB uploaded; objects: {detail}; LISTs {stats['list'].requests}")
    print(f"PUT-class requests per GiB: {per_gib:.1f} (bar {BAR:g})")
    return per_gib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gib", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="uploads-") as directory:
        per_gib = asyncio.run(measure(Path(directory), asked.gib))
    sys.exit(per_gib > BAR)


if __name__ == "__main__":
    main()
