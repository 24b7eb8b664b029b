"""A directory store and one copier of each kind on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tiering.copying.mover import Mover
from tiering.copying.port import Copier
from tiering.copying.worker.copier import WorkerCopier
from tiering.objects.measured import StoreStats
from tiering.objects.opening import open_store
from tiering.objects.throttled import ThrottledStore, TokenBucket
from tierlog import kernel
from tierlog.broker.offload.copiers import WORKER

NOW_MS = 5_000
WALK_AT_ONCE = None if kernel.compiled is None else kernel.compiled.walk_segment


@dataclass
class Rig:
    """``take``: how many bytes were asked for, in the order of asking (of a worker only)."""

    directory: Path
    store: ThrottledStore
    stats: StoreStats
    copier: Copier
    taken: list[int] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)

    @property
    def worker(self) -> WorkerCopier:
        assert isinstance(self.copier, WorkerCopier)
        return self.copier

    def objects(self) -> list[Path]:
        """What is visible."""
        return [path for path in (self.directory / "objects").rglob("*.seg") if path.is_file()]

    async def close(self) -> None:
        await self.copier.close()
        await self.store.close()


def rig(
    directory: Path,
    kind: str,
    *,
    bytes_per_second: int = 0,
    jobs_max: int = 2,
    idle_s: float = 60.0,
    options: str = "durable=false",
) -> Rig:
    """``kind``: "here" or "worker"."""
    url, stats = f"dir:{directory / 'objects'}?{options}", StoreStats()
    store = ThrottledStore(
        open_store(url, stats=stats), upload=TokenBucket(bytes_per_second), download=TokenBucket(0)
    )
    if kind == "here":
        return Rig(directory, store, stats, Mover(store, clock_ms=lambda: NOW_MS, walk_at_once=WALK_AT_ONCE))
    taken, deaths = list[int](), list[str]()

    async def take(size_bytes: int) -> None:
        taken.append(size_bytes)
        await store.take_upload(size_bytes)

    copier = WorkerCopier(
        url,
        jobs_max=jobs_max,
        stats=stats,
        clock_ms=lambda: NOW_MS,
        take=take,
        on_death=lambda why, pause_s: deaths.append(why),
        idle_s=idle_s,
        program=WORKER,
    )
    return Rig(directory, store, stats, copier, taken, deaths)
