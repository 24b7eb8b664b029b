"""The file that a replay goes on from: what was asked for, resolved once, and how far a sink has come that cannot tell.

JSON, replaced in one step. It names no bucket and holds no secret: those are given again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tierlog.errors import UserError
from tierlog.types import TopicPartition

FORMAT_VERSION = 1


@dataclass(slots=True)
class State:
    """``ranges``: [topic, partition, start, end) of all partitions. ``done``: by "topic/partition", the offset below which
    everything has been written. ``written_bytes``: of a file that is appended to, so much counts. ``value_format``: "json",
    "avro", "protobuf" or "", and ``value_type`` what its decoder remembers. ``dead_from``: where a topic of dead letters
    ended at the beginning, by partition."""

    sink: str
    columns: list[str]
    where: str
    ranges: list[tuple[str, int, int, int]]
    done: dict[str, int] = field(default_factory=dict)
    written_bytes: int = 0
    value_format: str = ""
    value_type: str = ""
    dead_from: dict[str, int] = field(default_factory=dict)

    def reached(self, where: TopicPartition, next_offset: int) -> None:
        self.done[f"{where.topic}/{where.partition}"] = next_offset

    def ends(self) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, partition): end for topic, partition, _, end in self.ranges}

    def done_ranges(self) -> dict[TopicPartition, list[tuple[int, int]]]:
        """By partition: from its start up to where everything has been written."""
        return {
            TopicPartition(topic, partition): [(start, self.done[f"{topic}/{partition}"])]
            for topic, partition, start, _ in self.ranges
            if f"{topic}/{partition}" in self.done
        }


def load(path: Path) -> State | None:
    """None if there is no such file. Raises UserError."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if found.pop("format_version") != FORMAT_VERSION:
            raise UserError(f"{path} is of another release; begin anew without --resume")
        state = State(**found)
        state.ranges = [(str(t), int(p), int(start), int(end)) for t, p, start, end in state.ranges]
        return state
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no file to resume from: {error}; name another one with --resume"
        ) from None


def save(path: Path, state: State) -> None:
    """Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        json.dump({"format_version": FORMAT_VERSION, **asdict(state)}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
