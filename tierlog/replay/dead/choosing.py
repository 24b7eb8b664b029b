"""The place of dead letters that ``--dead-letters`` names."""

from __future__ import annotations

from pathlib import Path

from tierlog.errors import UserError
from tierlog.replay.cluster import Cluster
from tierlog.replay.dead.lines import DeadLines
from tierlog.replay.dead.parquet import DeadParquet
from tierlog.replay.dead.port import DeadLetters, Forgotten
from tierlog.replay.dead.topic import DeadTopic


def open_dead_letters(text: str | None, cluster: Cluster | None, *, is_resumed: bool) -> DeadLetters:
    """Raises UserError."""
    if text is None:
        return Forgotten()
    kind, _, rest = text.partition(":")
    if kind == "parquet" and rest:
        return DeadParquet(Path(rest), is_resumed=is_resumed)
    if kind == "topic" and rest:
        if cluster is None:
            raise UserError(
                f"--dead-letters {text}: a topic is written to through brokers: name one with --bootstrap-server"
            )
        return DeadTopic(cluster, rest)
    return DeadLines(Path(rest if kind == "jsonl" and rest else text), is_resumed=is_resumed)
