"""Several brokers on one machine, one process each, that share a metadata store and an object store.

Rules:

* Broker i of N has node.id + i, every port + i (0 stays 0) and its own log directories: its share of ``log.dirs`` if N
  divides their number, else ``DIR`` for the first broker and ``DIR-ID`` for the others. So the first broker equals the one
  that runs alone without the option.
* The brokers' lines go to this process's stderr, prefixed with ``[broker ID]``.
* SIGTERM or Ctrl-C stops all of them cleanly and waits. A broker that ends by itself is reported, and the others go on.
* A broker that failed is started again, each time after a longer pause; after ``TRIES`` failures in a row it is left alone.
  A broker that was told to stop, and did, stays stopped.
* No broker outlives this process. What they tell systemd goes through it (``member_notices``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TextIO, cast

from tierlog.cli.member_notices import MemberNotices
from tierlog.config.broker import BrokerConfig, Listener
from tierlog.errors import UserError

SUPERVISOR = "TIERLOG_SUPERVISOR_PID"
LOG_FORMAT = "TIERLOG_LOG_FORMAT"
MAX_LINE_BYTES = 1024 * 1024
_PR_SET_PDEATHSIG = 1
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 30.0
TRIES = 6
# A process that ran for so long ends a row of failures.
STEADY_S = 60.0


@dataclass(frozen=True, slots=True)
class Member:
    """One of the brokers: its settings besides the common ones."""

    node_id: int
    addresses: tuple[str, ...]
    overrides: dict[str, str]


def members(base: BrokerConfig, count: int, option: str) -> list[Member]:
    """``base``: the config of the first broker. Raises UserError when the brokers would conflict."""
    if base.metadata_store == "memory:":
        raise UserError(f"{option} {count}: metadata.store=memory: cannot be shared; sqlite:PATH can")
    found = [_member(base, number, count) for number in range(count)]
    ports = Counter(
        listener.port + number
        for number in range(count)
        for listener in (*base.listeners, *base.tierlog_http_listeners)
        if listener.port
    )
    taken = sorted(port for port, times in ports.items() if times > 1)
    if taken:
        raise UserError(
            f"{option} {count}: port {taken[0]} would be of two listeners; put them {count} apart"
        )
    if max(ports, default=0) > 65535:
        raise UserError(f"{option} {count}: there is no port {max(ports)}")
    return found


def _member(base: BrokerConfig, number: int, count: int) -> Member:
    node_id = base.node_id + number
    bound = _shifted(base.listeners, number)
    overrides = {
        "node.id": str(node_id),
        "listeners": _joined(bound),
        "tierlog.http.listeners": _joined(_shifted(base.tierlog_http_listeners, number)),
        "log.dirs": ",".join(_log_dirs(base.log_dirs, number, count, node_id)),
        "metadata.store": base.metadata_store,
        "tierlog.object.store": base.tierlog_object_store,
    }
    if "advertised.listeners" in base.given:
        overrides["advertised.listeners"] = _joined(_shifted(base.advertised_listeners, number))
    return Member(node_id, tuple(f"{each.host}:{each.port}" for each in bound), overrides)


def _shifted(listeners: Iterable[Listener], number: int) -> list[Listener]:
    return [replace(each, port=each.port + number) if each.port else each for each in listeners]


def _joined(listeners: Iterable[Listener]) -> str:
    return ",".join(map(str, listeners))


def _log_dirs(dirs: Sequence[str], number: int, count: int, node_id: int) -> list[str]:
    if len(dirs) % count == 0:
        share = len(dirs) // count
        return list(dirs[number * share : (number + 1) * share])
    return [path if number == 0 else f"{path.rstrip('/')}-{node_id}" for path in dirs]


def commands(arguments: Sequence[str], brokers: Iterable[Member]) -> dict[int, list[str]]:
    """The command line of each broker by its id; ``arguments``: the common part."""
    return {
        each.node_id: [
            *(sys.executable, "-m", "tierlog", *arguments),
            *(part for key, value in each.overrides.items() for part in ("--override", f"{key}={value}")),
        ]
        for each in brokers
    }


class Forgiving(io.TextIOBase):
    """Stderr whose reader may go away: a clean stop must not fail because nobody reads its messages."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stream.flush()


def end_with_supervisor() -> None:
    """For a broker that another process started: when that process ends, this one gets SIGTERM."""
    parent = os.environ.get(SUPERVISOR)
    if parent is None or not sys.platform.startswith("linux"):
        return
    sys.stderr = cast(TextIO, Forgiving(sys.stderr))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        raise UserError("the process that started this broker has ended")


class Restarts:
    """When one broker that has failed is started again."""

    def __init__(self, first_delay_s: float = FIRST_DELAY_S) -> None:
        self._first_delay_s = first_delay_s
        self._in_a_row = 0

    def delay_s(self, ran_s: float) -> float | None:
        """The pause after a failure of a process that ran for ``ran_s``; None: do not start it again."""
        self._in_a_row = 1 if ran_s >= STEADY_S else self._in_a_row + 1
        if self._in_a_row >= TRIES:
            return None
        return min(self._first_delay_s * (1 << (self._in_a_row - 1)), MAX_DELAY_S)


class Supervisor:
    """Runs the commands until all have ended for good; ``run`` once."""

    def __init__(self, command_of: dict[int, list[str]], first_delay_s: float = FIRST_DELAY_S) -> None:
        self._command_of = command_of
        self._first_delay_s = first_delay_s
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._failed = False

    async def run(self) -> None:
        """Runs until SIGTERM or Ctrl-C has stopped all, or all have ended. Raises UserError when one has failed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._notices = MemberNotices(self._running, len(self._command_of), self._say)
        try:
            async with asyncio.TaskGroup() as group:
                for node_id, command in self._command_of.items():
                    group.create_task(self._keep(node_id, command))
        finally:
            self._notices.close()
        if self._failed:
            raise UserError("not all brokers have ended well: see above")

    async def _keep(self, node_id: int, command: list[str]) -> None:
        loop, restarts = asyncio.get_running_loop(), Restarts(self._first_delay_s)
        while True:
            began_s = loop.time()
            code = await self._run_once(node_id, command)
            if self._stopping.is_set() or code == 0:
                again_s = None
            else:
                again_s = restarts.delay_s(loop.time() - began_s)
            self._ended(node_id, code, again_s)
            if again_s is None:
                self._failed = self._failed or code != 0
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._stopping.wait()
            if self._stopping.is_set():
                self._failed = True
                return

    async def _run_once(self, node_id: int, command: list[str]) -> int:
        """The exit code, negative for a signal."""
        environment = {**os.environ, **self._notices.environment, SUPERVISOR: str(os.getpid())}
        if sys.stderr.isatty():
            environment.setdefault(LOG_FORMAT, "console")
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            limit=MAX_LINE_BYTES,
            # A process group of its own, so that a Ctrl-C at the terminal reaches only the supervisor.
            process_group=0,
        )
        self._running[node_id] = process
        if self._stopping.is_set():
            process.terminate()
        assert process.stdout is not None
        await self._relay(node_id, process.stdout)
        code = await process.wait()
        del self._running[node_id]
        self._notices.ended(node_id)
        return code

    async def _relay(self, node_id: int, lines: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await lines.readline()
            except ValueError:
                continue  # A line beyond the limit: the part that was read is dropped.
            if not line:
                return
            self._say(f"[broker {node_id}] {line.decode(errors='replace').rstrip()}")

    def _ended(self, node_id: int, code: int, again_s: float | None) -> None:
        if self._stopping.is_set() and code == 0:
            return
        how = (
            f"was killed by {signal.Signals(-code).name}" if code < 0 else f"has ended with exit code {code}"
        )
        rest = ""
        if not self._stopping.is_set():
            rest = f"; {len(self._running)} of {len(self._command_of)} go on"
            if again_s is not None:
                rest += f"; it is started again in {again_s:g} s"
            elif code:
                rest += f"; it has failed {TRIES} times in a row and is left alone"
        self._say(f"tierlog: broker {node_id} {how}{rest}")

    def _stop(self) -> None:
        self._stopping.set()
        self._notices.stopping()
        for process in self._running.values():
            process.terminate()

    @staticmethod
    def _say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def run_brokers(arguments: Sequence[str], brokers: Sequence[Member]) -> None:
    """Runs until SIGTERM or Ctrl-C. Raises UserError when one has failed."""
    where = ", ".join(each.addresses[0] for each in brokers)
    sys.stderr.write(f"tierlog: starting {len(brokers)} brokers: {where}; Ctrl-C stops them all\n")
    asyncio.run(Supervisor(commands(arguments, brokers)).run())
