"""Instructions of walks over many batches, with the kernel and with its twin, counted by callgrind as ``instructions`` does.

    python -m benchmarks.scan_instructions [--times 20] [--row ROW]

Rows: what a follower's log does with a leader's reply of 1, 10 and 100 batches of 1,000 bytes, a recovery of 300 such
batches, and the scan before an upload of 1 MiB of them; a follower's round, from a leader's answer with one batch each for 1
and 12 partitions to the next request, and one with 20 batches for one. Producers are idempotent.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from benchmarks.instructions import CALLGRIND, COLLECTED
from tests.following import TOPIC_IDS, Following, answer
from tiering.copying.scan import scan
from tiering.copying.source import SegmentSource
from tierlog import kernel
from tierlog.config.topic import TopicConfig
from tierlog.errors import ErrorCode
from tierlog.log.log import Log
from tierlog.records.records import Record, build_batch
from tierlog.types import TopicPartition
from tierlog.wire.messages.fetch import PartitionData

FOLLOWED = {"follow-1": 1, "follow-10": 10, "follow-100": 100}
RECOVERED_COUNT = 300
ROUNDS = {"round-1": (1, 1), "round-12": (12, 1), "round-20": (1, 20)}
"""Partitions, and batches for each."""
ROWS = (*FOLLOWED, *ROUNDS, "recover-300", "scan-1-mib")
NOW_MS = 1_700_000_000_000
_PARTITION = TopicPartition("rows", 0)
_BATCH_BYTES = 1_000


def batches(first_offset: int, number: int) -> bytearray:
    """Of one record each, of one producer."""
    data = bytearray()
    for offset in range(first_offset, first_offset + number):
        data += build_batch(
            [Record(None, bytes(_BATCH_BYTES - 70), NOW_MS + offset)],
            base_offset=offset,
            leader_epoch=3,
            producer_id=7,
            producer_epoch=0,
            base_sequence=offset,
        )
    return data


def opened(directory: Path) -> Log:
    config = TopicConfig(segment_bytes=1 << 30)
    return Log.open(
        directory / str(_PARTITION),
        _PARTITION,
        bytes(16),
        config,
        now_ms=NOW_MS,
        was_clean=False,
        recovery_point=0,
        log_start_offset=0,
        high_watermark=0,
    )


def following(directory: Path, number: int, times: int) -> Callable[[], object]:
    log, offsets = opened(directory), count(0, number)
    replies = iter([memoryview(batches(next(offsets), number)) for _ in range(times + 1)])

    def follow() -> None:
        assert log.append_as_follower(next(replies), NOW_MS).error is ErrorCode.NONE

    return follow


def rounds(directory: Path, partitions: int, number: int, times: int) -> Callable[[], object]:
    config = TopicConfig(segment_bytes=1 << 30)
    broker = Following(directory, asyncio.new_event_loop(), partitions, [config])
    answers = []
    for each in range(times + 1):
        data = bytes(batches(each * number, number))
        parts = [
            PartitionData(partition_index=row, high_watermark=each * number, log_start_offset=0, records=data)
            for row in range(partitions)
        ]
        answers.append(answer(each + 1, [(TOPIC_IDS[0], part) for part in parts]))
    frames, asked = iter(answers), broker.around.sent

    def take() -> None:
        before = len(asked)
        broker.receive(next(frames))
        assert len(asked) == before + 1

    return take


def recovering(directory: Path) -> Callable[[], object]:
    log = opened(directory)
    assert log.append_as_follower(memoryview(batches(0, RECOVERED_COUNT)), NOW_MS).error is ErrorCode.NONE
    log.close_abruptly()
    return lambda: opened(directory).close_abruptly()


def scanning(directory: Path) -> Callable[[], object]:
    data = batches(0, (1 << 20) // _BATCH_BYTES)
    (directory / "s.log").write_bytes(data)
    end_offset = (1 << 20) // _BATCH_BYTES
    source = SegmentSource(str(directory / "s.log"), 0, len(data), 0, end_offset, ((3, 0),))
    return lambda: scan(source, None if kernel.compiled is None else kernel.compiled.walk_segment)


def run(row: str, times: int) -> None:
    """Counted is only what ``functools.reduce`` calls."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if row in FOLLOWED:
            step = following(directory, FOLLOWED[row], times)
        elif row in ROUNDS:
            step = rounds(directory, *ROUNDS[row], times)
        else:
            step = recovering(directory) if row.startswith("recover") else scanning(directory)
        step()
        functools.reduce(lambda _, number: step(), range(times), None)


def counted(row: str, times: int, switch: str) -> int:
    command = [
        "valgrind",
        "--tool=callgrind",
        *CALLGRIND,
        sys.executable,
        "-m",
        "benchmarks.scan_instructions",
    ]
    command += ["--row", row, "--times", str(times), "--here"]
    environment = {**os.environ, "PYTHONHASHSEED": "0", kernel.SWITCH: switch}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    collected = COLLECTED.search(found.stderr)
    if found.returncode or collected is None:
        raise RuntimeError(found.stderr[-2_000:])
    return int(collected[1]) // times


def figures(times: int, rows: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """(row, instructions with the kernel, with the twin)."""
    for row in rows:
        yield row, counted(row, times, "require"), counted(row, times, "off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--here", action="store_true", help="Run the row itself.")
    asked = parser.parse_args()
    if asked.here:
        run(asked.row, asked.times)
        return
    for row, with_kernel, with_twin in figures(asked.times, (asked.row,) if asked.row else ROWS):
        print(f"{row:14} {with_kernel:>12,} with the kernel {with_twin:>12,} with the twin", flush=True)


if __name__ == "__main__":
    main()
