"""By whom a bill is divided. Imported for each start of the command line, so it imports nothing else."""

from __future__ import annotations

from enum import StrEnum


class By(StrEnum):
    """Who pays."""

    TOPIC = "topic"
    PARTITION = "partition"
    PRINCIPAL = "principal"
    GROUP = "group"
    OWNER = "owner"
