"""Processor time that an upload takes per GiB, the copy worker included: the scan of every batch, the bytes to the store.

    python -m benchmarks.upload_cpu [--mib 1024] [--batch-bytes 1000] [--runs 3] [--place DIRECTORY] [--store URL]

Segments of 256 MiB lie in ``--place``, in memory if none is named, and go to a directory there, and over plain HTTP to an S3
that keeps nothing, or to ``--store``, whose servers are not counted. Kernel and twin alternate. The peak is the memory of
the worker. Bar: 1.2 s per GiB with the kernel, at batches of 1,000 bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmarks.discarding_s3 import discarding_s3
from benchmarks.processes import ProcessTree
from tests.unit.tiering.segments import KEYS
from tiering.copying.port import Target
from tiering.copying.source import SegmentSource
from tiering.copying.worker.copier import WorkerCopier
from tiering.objects.measured import StoreStats
from tiering.objects.opening import open_store
from tierlog.broker.offload.copiers import WORKER
from tierlog.kernel import SWITCH
from tierlog.records.batch import parse_header, stamp
from tierlog.records.records import Record, build_batch

MIB = 1 << 20
SEGMENT_BYTES = 256 * MIB
WARM_UP_BYTES = 16 * MIB
"""So large that all that uploads is imported behind it."""
BAR_S = 1.2
_MEMORY = Path("/dev/shm")


def segment(path: Path, size_bytes: int, batch_bytes: int) -> SegmentSource:
    """A file of batches of one record each."""
    batch = bytearray(build_batch([Record(None, bytes(max(1, batch_bytes - 70)), 1_000)]))
    assert parse_header(batch).size_bytes == len(batch)
    count = size_bytes // len(batch)
    with path.open("wb") as file:
        for offset in range(count):
            stamp(batch, 0, offset, 0)
            file.write(batch)
    return SegmentSource(str(path), 0, count * len(batch), 0, count, ((0, 0),))


async def copied(url: str, sources: list[SegmentSource], number: int, server: int) -> tuple[float, float]:
    """Seconds of processor time of this process and its worker, whose start does not count; and the worker's peak in MiB."""

    async def take(size_bytes: int) -> None:
        """There is no rate."""

    def died(why: str, pause_s: float) -> None:
        raise RuntimeError(why)

    store = open_store(url, stats=StoreStats())
    copier = WorkerCopier(
        url,
        program=WORKER,
        jobs_max=2,
        stats=StoreStats(),
        clock_ms=lambda: 1_000,
        take=take,
        on_death=died,
    )
    ours, others = ProcessTree(os.getpid()), ProcessTree(server)
    before_s = 0.0
    for at, source in enumerate(sources):
        await copier.copy(source, Target(KEYS, 1, bytes([number, at] * 8)))
        before_s = before_s or ours.cpu_s() - others.cpu_s()
    used_s = ours.cpu_s() - others.cpu_s() - before_s
    (worker,) = set(ours.pids()) - {os.getpid(), server}
    peak_mib = ProcessTree(worker).memory().peak_mib
    await copier.close()
    await store.close()
    return used_s, peak_mib


def measure(directory: Path, stores: dict[str, str], server: int, asked: argparse.Namespace) -> float:
    """Seconds per GiB with the kernel, to the store where it takes most. ``stores``: URLs by name."""
    size = asked.mib * MIB
    sizes = [WARM_UP_BYTES, *(min(SEGMENT_BYTES, size - at) for at in range(0, size, SEGMENT_BYTES))]
    sources = [segment(directory / f"{n}.log", size, asked.batch_bytes) for n, size in enumerate(sizes)]
    gib = sum(source.end_position for source in sources[1:]) / (1 << 30)
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for run in range(asked.runs):
        for name, url in stores.items():
            for number, switch in enumerate(("require", "off")):
                os.environ[SWITCH] = switch
                used_s, peak_mib = asyncio.run(copied(url, sources, 2 * run + number, server))
                found[name, switch].append((used_s / gib, peak_mib))
                for path in (directory / "objects").rglob("*.seg"):
                    path.unlink()
    for (name, switch), rows in found.items():
        seconds, peaks = zip(*rows, strict=True)
        told = ", ".join(f"{each:.2f}" for each in seconds)
        half = "kernel" if switch == "require" else "twin"
        print(
            f"{name:9} {half:7} {median(seconds):6.2f} s of CPU per GiB ({told}), peak {max(peaks):.0f} MiB",
            flush=True,
        )
    return max(median(used for used, _ in found[name, "require"]) for name in stores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--batch-bytes", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--place", type=Path, default=_MEMORY if _MEMORY.is_dir() else None)
    parser.add_argument("--store")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="tierlog-upload-", dir=asked.place) as name,
        discarding_s3() as s3,
    ):
        stores = {"store": asked.store}
        if not asked.store:
            stores = {"directory": f"dir:{name}/objects?durable=false", "s3": s3.url}
            os.environ.update(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="secret")
        per_gib = measure(Path(name), stores, s3.pid, asked)
    sys.exit(per_gib > BAR_S)


if __name__ == "__main__":
    main()
