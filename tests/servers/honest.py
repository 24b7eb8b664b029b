"""Who must not suffer while somebody attacks a bound: a client that produces with acks=all, reads it back, and goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.servers.raw_client import RawClient, one_batch
from tierlog.errors import ErrorCode

PATIENCE_S = 60.0


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no process {pid}")


class HonestClient:
    """Produces to and fetches from ``topic`` in a thread of its own until the block ends; then everything that was
    acknowledged must be there, in order, on the connections of the beginning. ``rounds`` counts what is done."""

    def __init__(self, port: int, topic: str, value_bytes: int = 2_000) -> None:
        self.rounds = 0
        self.slowest_s = 0.0
        self._port = port
        self._topic = topic
        self._value_bytes = value_bytes
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> HonestClient:
        with RawClient(self._port) as client:
            client.create_topic(self._topic)
        self._thread.start()
        self.goes_on(1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        if kind is None:
            assert not self._thread.is_alive(), "the honest client hangs"
            self._raise_its_error()

    def goes_on(self, rounds: int = 3) -> None:
        """Waits until so many more rounds are done."""
        wanted = self.rounds + rounds
        deadline_s = time.monotonic() + PATIENCE_S
        while self.rounds < wanted:
            self._raise_its_error()
            assert time.monotonic() < deadline_s, f"the honest client stands still after {self.rounds} rounds"
            time.sleep(0.01)

    def _raise_its_error(self) -> None:
        if self._error is not None:
            raise AssertionError("the honest client suffered") from self._error

    def _run(self) -> None:
        try:
            with (
                RawClient(self._port, PATIENCE_S) as producer,
                RawClient(self._port, PATIENCE_S) as consumer,
            ):
                while not self._stop.is_set():
                    began_s = time.monotonic()
                    self._round(producer, consumer)
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
                    self.rounds += 1
        except BaseException as error:
            self._error = error

    def _round(self, producer: RawClient, consumer: RawClient) -> None:
        value = (b"%08d" % self.rounds).ljust(self._value_bytes, b".")
        answer = producer.produce(self._topic, one_batch(value), timeout_ms=30_000)
        assert answer.error_code == ErrorCode.NONE, ErrorCode(answer.error_code).name
        assert answer.base_offset == self.rounds
        found = consumer.records(self._topic, self.rounds, max_wait_ms=500)
        assert [(offset, read) for offset, _, read in found] == [(self.rounds, value)]
