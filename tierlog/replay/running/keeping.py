"""A sink, its dead letters, and the file beside it that a replay is resumed from."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tierlog.replay.dead.port import DeadLetters
from tierlog.replay.reading import Chunk
from tierlog.replay.running.job import Job
from tierlog.replay.running.state import State, save
from tierlog.replay.sinks.port import Done, Sink, explained

SETTLE_S = 1.0
STATE_FILE = ".replay.json"


def state_path(job: Job) -> Path | None:
    if job.resume is not None:
        return job.resume
    kind, _, rest = job.sink.partition(":")
    return Path(rest) / STATE_FILE if kind == "parquet" else None


class Keeping:
    """The sink, and the file to resume from beside it. For threads, one after the other: a replay that is cancelled waits
    for what its thread is at."""

    def __init__(self, sink: Sink, dead: DeadLetters, state: State, path: Path | None) -> None:
        self._sink = sink
        self._dead = dead
        self._state = state
        self._path = path
        self._settles = path is not None and sink.needs_state
        self._turn = threading.Lock()
        self._settled_at_s = time.monotonic()

    def start(self, is_resumed: bool) -> Done:
        with self._turn:
            done = self._sink.start(self._state, is_resumed=is_resumed)
            self._dead.start(self._state, done, is_resumed=is_resumed)
            return done

    def save(self) -> None:
        if self._path is not None:
            with explained(self._path):
                save(self._path, self._state)

    def write(self, chunk: Chunk) -> None:
        with self._turn:
            self._sink.write(chunk)
            now_s = time.monotonic()
            if self._settles and now_s - self._settled_at_s >= SETTLE_S:
                self._settled_at_s = now_s
                self._settle()

    def finish(self) -> None:
        with self._turn:
            self._dead.settle()
            if self._settles:
                self._settle()
            self._sink.close()
            self._dead.close()

    def give_up(self) -> None:
        with self._turn:
            self._sink.give_up()
            self._dead.close()

    def _settle(self) -> None:
        self._dead.settle()
        self._sink.settle(self._state)
        self.save()
