"""Joins the many small buffers of a long reply: each costs the socket's writer as much as a large one.

A Fetch of 85,000 partitions is answered in twice as many buffers of some twenty bytes; handing them to the transport took
40 ms in one step. Records are large, and are never copied.
"""

from __future__ import annotations

from tierlog.broker.work.slices import Steps
from tierlog.types import Buffer

MANY = 1024
"""Up to so many buffers one system call writes them as they are (IOV_MAX)."""
SMALL_BYTES = 4096
"""Buffers up to this size are joined with their neighbours."""
JOINED_BYTES = 65_536


def joined(buffers: list[Buffer]) -> Steps[list[Buffer]]:
    """The same bytes in fewer buffers. Empties ``buffers``, so that what was joined is freed in steps too."""
    found: list[Buffer] = []
    run: list[Buffer] = []
    run_bytes = 0
    buffers.reverse()
    while buffers:
        buffer = buffers.pop()
        if len(buffer) <= SMALL_BYTES:
            run.append(buffer)
            run_bytes += len(buffer)
        if run and (len(buffer) > SMALL_BYTES or run_bytes >= JOINED_BYTES or not buffers):
            found.append(b"".join(run))
            run, run_bytes = [], 0
        if len(buffer) > SMALL_BYTES:
            found.append(buffer)
        yield
    return found
