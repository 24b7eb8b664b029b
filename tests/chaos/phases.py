"""What a broker may be doing when it is killed: how to catch it at it, and what it leaves behind.

``trigger`` says when to kill; ``left_behind`` looks at the disk of the dead broker, so that the table of a run tells
both how often each phase was aimed at and how often it was really cut in two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.servers.tierlog import BrokerProcess
from tierlog.log.files.names import CLEANED, DELETED, LOG, SNAPSHOT, SWAP

_SEGMENT = r"/\d{20}"


@dataclass(frozen=True, slots=True)
class Phase:
    """``event`` on a path that matches ``pattern`` below the log dir, or below the object store."""

    name: str
    event: str
    pattern: str
    delay_us_max: int
    left_behind: Callable[[BrokerProcess], bool]
    in_objects: bool = False
    count_max: int = 6

    def roots(self, broker: BrokerProcess) -> list[Path]:
        return [broker.objects] if self.in_objects else [broker.log_dir]

    def arguments(self, broker: BrokerProcess, rng: Random) -> list[str]:
        """For tests.chaos.trigger."""
        return [
            *("--event", self.event, "--match", self.pattern),
            *("--count", str(rng.randrange(1, self.count_max + 1))),
            *("--delay-us", str(rng.randrange(self.delay_us_max + 1))),
            *map(str, self.roots(broker)),
        ]


def _files(root: Path, suffix: str) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.endswith(suffix)]


def _staged_object(broker: BrokerProcess) -> bool:
    staged = broker.objects / ".tmp"
    return staged.exists() and any(staged.iterdir())


def _empty_active_segment(broker: BrokerProcess) -> bool:
    """A segment file without a byte, or one without the snapshot that stands beside each but the first."""
    for directory in broker.log_dir.iterdir():
        if directory.is_dir():
            logs = sorted(path for path in directory.glob(f"*{LOG}") if re.fullmatch(r"\d{20}", path.stem))
            if len(logs) > 1 and (
                logs[-1].stat().st_size == 0 or not logs[-1].with_suffix(SNAPSHOT).exists()
            ):
                return True
    return False


def _torn_snapshot(broker: BrokerProcess) -> bool:
    snapshots = _files(broker.log_dir, SNAPSHOT)
    return bool(_files(broker.log_dir, SNAPSHOT + ".tmp")) or any(not s.stat().st_size for s in snapshots)


def _object_without_head(broker: BrokerProcess) -> bool:
    """Filled in by the next start, which sweeps orphans; see ``Kill9``."""
    return False


PHASES = (
    Phase("append", "modified", _SEGMENT + re.escape(LOG) + "$", 500, lambda broker: False, count_max=400),
    Phase("upload", "created", r"/\.tmp/", 1500, _staged_object, in_objects=True),
    Phase("commit", "appears", r"\.seg$", 400, _object_without_head, in_objects=True),
    Phase(
        "local delete",
        "moved",
        re.escape(DELETED) + "$",
        300,
        lambda broker: bool(_files(broker.log_dir, DELETED)),
    ),
    Phase("unlink", "deleted", re.escape(DELETED) + "$", 300, lambda b: bool(_files(b.log_dir, DELETED))),
    Phase("roll", "created", _SEGMENT + re.escape(LOG) + "$", 200, _empty_active_segment),
    Phase("snapshot", "appears", re.escape(SNAPSHOT) + r"(\.tmp)?$", 100, _torn_snapshot),
    Phase(
        "compaction",
        "created",
        re.escape(CLEANED) + "$",
        1500,
        lambda broker: bool(_files(broker.log_dir, CLEANED)) or bool(_files(broker.log_dir, SWAP)),
        count_max=3,
    ),
    Phase(
        "swap",
        "moved",
        re.escape(SWAP) + "$",
        300,
        lambda broker: bool(_files(broker.log_dir, SWAP)),
        count_max=4,
    ),
    Phase(
        "checkpoint",
        "created",
        r"checkpoint(\.tmp)?$",
        300,
        lambda broker: bool(_files(broker.log_dir, "checkpoint.tmp")),
        count_max=4,
    ),
    Phase("remote delete", "deleted", r"\.seg$", 1500, lambda broker: False, in_objects=True, count_max=3),
)
