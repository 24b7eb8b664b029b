"""What the brokers of one supervisor would tell systemd, gathered: systemd listens to the supervisor alone.

* ``READY=1`` goes out once all brokers are ready at the same time. One that was given up is never ready again.
* With ``WatchdogSec`` each broker says ``WATCHDOG=1`` to the supervisor, and one that has not for so long is killed and
  then started again as any other that failed. The supervisor says it to systemd for itself.

The brokers have one socket, with an abstract address that the kernel makes up; it names the sender of each notice, and
those that are no broker of ours do not count. Without systemd there is no socket. Bounds: the kernel's queue of the socket,
a timer per broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping

from tierlog.broker.systemd import ALIVE, READY, SOCKET, STOPPING, WATCHDOG_PID, Systemd, watchdog_s

NOTICE_BYTES_MAX = 4096
_SENDER = struct.Struct("3i")  # pid, uid, gid
# What a process that is aborted may need until it has said where it hung.
ABORT_S = 2.0

Processes = Mapping[int, asyncio.subprocess.Process]


class MemberNotices:
    """``processes``: those that run, by their node ids. ``ended`` after each run; ``close`` at last."""

    def __init__(self, processes: Processes, member_count: int, say: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._processes = processes
        self._member_count = member_count
        self._say = say
        self._systemd = Systemd()
        self._watchdog_s = watchdog_s(os.environ, os.getpid())
        self._ready: set[int] = set()
        self._has_told_ready = False
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._socket: socket.socket | None = None
        if self._systemd.is_there:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._socket.setblocking(False)
            self._socket.bind("")
            self._loop.add_reader(self._socket, self._read)

    @property
    def environment(self) -> dict[str, str]:
        """What a broker has instead of the supervisor's own variables."""
        if self._socket is None:
            return {}
        return {SOCKET: "@" + self._socket.getsockname()[1:].decode(), WATCHDOG_PID: ""}

    def ended(self, node_id: int) -> None:
        """The broker is not ready any more, nor watched."""
        self._ready.discard(node_id)
        timer = self._timers.pop(node_id, None)
        if timer is not None:
            timer.cancel()

    def stopping(self) -> None:
        """All are told to end. Each says so and is watched no more; one that hangs does not, and is killed in its time."""
        self._systemd.stopping()

    def close(self) -> None:
        self._systemd.close()
        for timer in self._timers.values():
            timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        assert self._socket is not None
        try:
            notice, ancillary, _, _ = self._socket.recvmsg(NOTICE_BYTES_MAX, socket.CMSG_SPACE(_SENDER.size))
        except BlockingIOError:
            return
        for level, kind, sender in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid = _SENDER.unpack(sender)[0]
                for node_id, process in self._processes.items():
                    if process.pid == pid:
                        self._take(node_id, set(notice.decode(errors="replace").split("\n")))

    def _take(self, node_id: int, lines: set[str]) -> None:
        if READY in lines:
            self._ready.add(node_id)
            if len(self._ready) == self._member_count and not self._has_told_ready:
                self._has_told_ready = True
                self._systemd.ready()
        if STOPPING in lines:
            self.ended(node_id)
        elif self._watchdog_s is not None and lines & {READY, ALIVE}:
            if node_id in self._timers:
                self._timers[node_id].cancel()
            self._timers[node_id] = self._loop.call_later(self._watchdog_s, self._abort, node_id)

    def _abort(self, node_id: int) -> None:
        process = self._processes[node_id]
        self._say(
            f"tierlog: broker {node_id} has not answered for {self._watchdog_s:g} s (WatchdogSec); it is killed"
        )
        _end(process, signal.SIGABRT)
        # A process that is stopped, or waits for a disk, takes no other.
        self._loop.call_later(ABORT_S, _end, process, signal.SIGKILL)


def _end(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
