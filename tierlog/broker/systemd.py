"""What a service tells systemd (``Type=notify``): that clients are served, that it stops, that its loop still turns.

systemd names a datagram socket in ``NOTIFY_SOCKET``; without that variable nothing is told. With ``WatchdogSec`` it also
gives ``WATCHDOG_USEC``, and restarts a service that has not said ``WATCHDOG=1`` for so long. A timer of the event loop says
it, twice in that time, so a loop that hangs says nothing.

Nothing here waits for systemd or raises: a broker serves as well when nobody listens. Bound: one notice of each kind waits
to be sent again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping

import structlog

SOCKET = "NOTIFY_SOCKET"
WATCHDOG_TIME = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"
READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"
# When a full socket is tried again.
AGAIN_S = 0.05

logger = structlog.get_logger()


def watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """The silence after which systemd restarts the service; None: it does not watch process ``pid``."""
    text = environ.get(WATCHDOG_TIME, "")
    of = environ.get(WATCHDOG_PID) or str(pid)
    if not text.isdecimal() or int(text) == 0 or of != str(pid):
        return None
    return int(text) / 1_000_000


class Systemd:
    """Made in the event loop that it speaks for. ``ready`` and ``stopping`` once each, then ``close``."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._loop = asyncio.get_running_loop()
        self._watchdog_s = watchdog_s(environ, os.getpid())
        self._timer: asyncio.TimerHandle | None = None
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._socket: socket.socket | None = None
        name = environ.get(SOCKET, "")
        if not name:
            return
        if name[0] not in "/@":
            logger.warning(
                "systemd is told nothing: its socket is of no kind that is known here", socket=name
            )
            return
        # ``@`` stands for the zero byte of an abstract address, which is in no file system.
        self._address = "\0" + name[1:] if name[0] == "@" else name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @property
    def is_there(self) -> bool:
        return self._socket is not None

    def ready(self) -> None:
        """Clients are served from now on; and from now on systemd watches."""
        self._tell(READY)
        if self._socket is not None and self._watchdog_s is not None:
            self._say_alive(self._watchdog_s / 2)

    def stopping(self) -> None:
        """A stop may hold the loop while it writes; systemd does not watch it."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell(STOPPING)

    def close(self) -> None:
        for timer in (self._timer, *self._retries.values()):
            if timer is not None:
                timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say_alive(self, period_s: float) -> None:
        self._tell(ALIVE)
        self._timer = self._loop.call_later(period_s, self._say_alive, period_s)

    def _tell(self, notice: str) -> None:
        self._retries.pop(notice, None)
        if self._socket is None:
            return
        try:
            self._socket.sendto(notice.encode(), self._address)
        except BlockingIOError:
            if notice != ALIVE:  # the timer says that again anyhow
                self._retries[notice] = self._loop.call_later(AGAIN_S, self._tell, notice)
        except OSError as error:
            logger.warning("systemd is not told", notice=notice, why=str(error))
