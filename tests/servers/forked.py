"""Brokers out of the nursery, with the verbs of ``subprocess.Popen`` that tests use."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from tests.patience import PATIENT_S
from tests.servers.nursery import MAX_MESSAGE_BYTES


class Nursery:
    """The process and the socket to it; one question at a time, from any thread."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(PATIENT_S)
        with theirs:
            command = [sys.executable, "-m", "tests.servers.nursery", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd=Path(__file__).parents[2],
            )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> Forked:
        """``tierlog ARGUMENTS`` with its output in that file."""
        asked = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "directory": os.getcwd(),
        }
        pid = self._ask(asked, [output.fileno()])
        assert pid is not None
        return Forked(pid, self)

    def status(self, pid: int) -> int | None:
        """As ``Popen.poll``; an ended process is gone after this."""
        return self._ask(pid)

    def _ask(self, question: object, files: Sequence[int] = ()) -> int | None:
        with self._turn:
            socket.send_fds(self._socket, [json.dumps(question).encode()], files)
            answer = self._socket.recv(MAX_MESSAGE_BYTES)
        assert answer, "the process that brokers are forked from has ended"
        found: int | None = json.loads(answer)
        return found


class Forked:
    """One broker; a child of the nursery, not of this process."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._turn = threading.Lock()

    def poll(self) -> int | None:
        with self._turn:
            if self.returncode is None:
                self.returncode = self._nursery.status(self.pid)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            ended = os.pidfd_open(self.pid)
            try:
                if not select.select([ended], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(f"tierlog, process {self.pid}", timeout or 0.0)
            finally:
                os.close(ended)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def nursery() -> Nursery:
    """The one of this process, started when it is first needed."""
    return Nursery()
