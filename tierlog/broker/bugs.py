"""Bugs: what to do when something impossible happened.

A bug costs the smallest thing that holds the broken state: a connection, a partition, a shard. In tests, where
``TIERLOG_FATAL_BUGS`` is set, it ends the process, so that none goes by unseen.
"""

from __future__ import annotations

import os
import sys

import structlog

FATAL_VARIABLE = "TIERLOG_FATAL_BUGS"
EXIT_CODE = 70  # EX_SOFTWARE

logger = structlog.get_logger()


def report(what: str, error: BaseException, **where: object) -> None:
    """Logs the bug with its traceback."""
    logger.error(what, exc_info=error, **where)
    if os.environ.get(FATAL_VARIABLE):
        sys.stderr.flush()
        os._exit(EXIT_CODE)
