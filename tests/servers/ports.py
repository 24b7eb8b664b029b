"""Ports for the servers of tests: two tests never get the same one, whichever process runs them.

A test stops a server and starts it again on its port. Meanwhile a server of another test could take it, and with
hundreds of such restarts in a run now and then one would. So a port is held for as long as the test process lives:
by a lock on its byte of a file that all test processes of this machine share, which the kernel drops at the end.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import tempfile
from functools import cache
from pathlib import Path

# Not from the range out of which the system serves outgoing connections: one of those could take the port too.
FIRST_PORT, LAST_PORT = 10_000, 32_000
_held: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on and that no other test gets."""
    return [ports_in_a_row(1) for _ in range(count)]


def ports_in_a_row(count: int) -> int:
    """The first of ``count`` such ports that follow each other."""
    while True:
        first = secrets.randbelow(LAST_PORT - FIRST_PORT - count) + FIRST_PORT
        if all(_hold(port) and _is_unused(port) for port in range(first, first + count)):
            return first


def _hold(port: int) -> bool:
    if port in _held:
        return False
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _held.add(port)
    return True


def _is_unused(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@cache
def _locks() -> int:
    """The shared file, open until the process ends: closing any descriptor of it would drop every lock."""
    path = Path(tempfile.gettempdir()) / f"tierlog-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
