"""systemd's side of ``Type=notify``: a datagram socket that takes what a service tells."""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path
from types import TracebackType

from tests.patience import PATIENT_S


class NotifySocket:
    """On ``path``, or on an abstract address if there is none; ``with``."""

    def __init__(self, path: Path | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.name = f"@tierlog-test-{secrets.token_hex(8)}" if path is None else str(path)
        self._socket.bind("\0" + self.name[1:] if path is None else self.name)

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def environment(self, watchdog_ms: int = 0) -> dict[str, str]:
        """What systemd gives to the service."""
        watched = {"WATCHDOG_USEC": str(watchdog_ms * 1000)} if watchdog_ms else {}
        return {"NOTIFY_SOCKET": self.name, **watched}

    def told(self) -> list[str]:
        """What has come since the last look."""
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return found

    def until(self, notice: str) -> list[str]:
        """All that comes up to ``notice``, which must come."""
        found: list[str] = []
        deadline_s = time.monotonic() + PATIENT_S
        while notice not in found:
            self._socket.settimeout(max(0.01, deadline_s - time.monotonic()))
            found.append(self._socket.recv(4096).decode())
        return found
