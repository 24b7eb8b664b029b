"""A segment of 1 GiB is copied through a few MiB of memory, and the event loop goes on meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GIB = 1 << 30

PROGRAM = """
import asyncio, json, resource, sys
from pathlib import Path
from tests.unit.tiering.segments import KEYS, batch
from tiering.copying.mover import Mover
from tiering.copying.port import Target
from tiering.copying.source import SegmentSource
from tiering.objects.directory import DirectoryStore

async def main(directory):
    path, size, offset = directory / "s.log", 0, 0
    payload = bytes(1 << 20)
    with path.open("wb") as file:
        while size < 1 << 30:
            size += file.write(batch(offset, 16, payload))
            offset += 16
    worst_s, stop = 0.0, False
    async def watch():
        nonlocal worst_s
        loop = asyncio.get_running_loop()
        while not stop:
            began = loop.time()
            await asyncio.sleep(0.001)
            worst_s = max(worst_s, loop.time() - began - 0.001)
    watching = asyncio.create_task(watch())
    store = DirectoryStore(directory / "objects", durable=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mover = Mover(store, clock_ms=lambda: 0)
    source = SegmentSource(str(path), 0, size, 0, offset, ((0, 0),))
    entry = await mover.copy(source, Target(KEYS, 0, bytes(16)))
    stop = True
    await watching
    await mover.close()
    await store.close()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"bytes": entry.data_bytes, "grown": grown, "worst_s": worst_s}))

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_one_gibibyte_streams_through_two_parts(tmp_path: Path) -> None:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, check=True, text=True
    ).stdout
    measured = json.loads(output)
    assert measured["bytes"] >= GIB
    assert measured["grown"] <= 48 << 20, measured
    assert measured["worst_s"] <= 0.5, measured
