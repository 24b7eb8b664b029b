"""Processor time that an upload takes per GiB, the copy worker included: the scan of every batch, the bytes to the store.

    python -m benchmarks.upload_cpu [--mib 1024] [--batch-bytes 1000] [--runs 3] [--store URL]

Segments of 256 MiB lie in memory, as far as there is room, and go to a directory there; ``--store`` names another store,
whose server is not counted. Kernel and twin alternate. Bar: 1.2 s per GiB with the kernel, at batches of 1,000 bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

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


async def copied(url: str, sources: list[SegmentSource], number: int) -> float:
    """Seconds of processor time of this process and its worker, whose start does not count."""

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
    tree = ProcessTree(os.getpid())
    before_s = 0.0
    for at, source in enumerate(sources):
        await copier.copy(source, Target(KEYS, 1, bytes([number, at] * 8)))
        before_s = before_s or tree.cpu_s()
    used_s = tree.cpu_s() - before_s
    await copier.close()
    await store.close()
    return used_s


def measure(directory: Path, url: str, mib: int, batch_bytes: int, runs: int) -> float:
    """Seconds per GiB with the kernel."""
    sizes = [MIB, *(min(SEGMENT_BYTES, mib * MIB - at) for at in range(0, mib * MIB, SEGMENT_BYTES))]
    sources = [segment(directory / f"{n}.log", size, batch_bytes) for n, size in enumerate(sizes)]
    gib = sum(source.end_position for source in sources[1:]) / (1 << 30)
    found: dict[str, list[float]] = {"require": [], "off": []}
    for run in range(runs):
        for number, switch in enumerate(found):
            os.environ[SWITCH] = switch
            used_s = asyncio.run(copied(url, sources, 2 * run + number))
            found[switch].append(used_s / gib)
            for path in (directory / "objects").rglob("*.seg"):
                path.unlink()
    for switch, name in (("require", "kernel"), ("off", "twin")):
        runs_told = ", ".join(f"{each:.2f}" for each in found[switch])
        print(f"{name:7} {median(found[switch]):6.2f} s of CPU per GiB ({runs_told})", flush=True)
    return median(found["require"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--batch-bytes", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--store")
    asked = parser.parse_args()
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="tierlog-upload-", dir=place) as name:
        url = asked.store or f"dir:{name}/objects?durable=false"
        per_gib = measure(Path(name), url, asked.mib, asked.batch_bytes, asked.runs)
    sys.exit(per_gib > BAR_S)


if __name__ == "__main__":
    main()
