"""Rebalances of classic groups as transcripts: ``tests/golden/groups/*.txt``.

A line that begins with ``>`` is a command, what follows it is what came of it: answers (also to earlier
commands), the state of the group when it changed, and the records. ``python -m
tests.golden.test_group_rebalances --rewrite`` plays all files anew; the difference is then reviewed like any
other.

Commands: ``join NAME [instance=ID] [protocols=a,b] [version=N] [session=MS] [rebalance=MS]``, ``sync NAME
[NAME=PART …]``, ``heartbeat NAME``, ``commit NAME OFFSET``, ``leave NAME …``, ``advance MS``, ``restart``. A
join of a new name takes the member id that it is given and joins again with it when told to.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.coordination.world import World
from tierlog.coordination.records import GroupStored, decode_event
from tierlog.errors import ErrorCode

FILES = sorted((Path(__file__).parent / "groups").glob("*.txt"))


class Transcript:
    """Plays commands on one group and writes down what happens."""

    def __init__(self) -> None:
        self.world = World(group_initial_rebalance_delay_ms=3000)
        self.ids: dict[str, str] = {}  # name -> member id
        self.instances: dict[str, str] = {}
        self.waiting: dict[int, tuple[str, str]] = {}  # ticket -> command, name
        self.lines: list[str] = []
        self._state = ""
        self._recorded_count = 0

    def name_of(self, member_id: str) -> str:
        names = [name for name, known in self.ids.items() if known == member_id]
        return names[0] if names else member_id or "-"

    def play(self, command: str) -> None:
        self.lines.append(f"> {command}")
        verb, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words if "=" not in word]
        getattr(self, verb)(*names, **options)
        self._tell_answers()
        self._tell_records()
        state = self.world.state() if self.world.shard.exists("g") else "none"
        if state != self._state:
            self.lines.append(f"group is {state}")
            self._state = state

    def join(self, name: str, **options: str) -> None:
        if "instance" in options:
            self.instances[name] = options["instance"]
        join: dict[str, Any] = {
            "member": self.ids.get(name, ""),
            "instance": self.instances.get(name),
            "version": int(options.get("version", "9")),
            "session_ms": int(options.get("session", "10000")),
            "rebalance_ms": int(options.get("rebalance", "60000")),
        }
        if "protocols" in options:
            join["protocols"] = dict.fromkeys(options["protocols"].split(","), b"")
        ticket = self.world.send_join(**join)
        answer = self.world.answers.get(ticket)
        if answer is not None and answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.ids[name] = answer.member_id
            self.lines.append(f"{name}: join MEMBER_ID_REQUIRED")
            ticket = self.world.send_join(**{**join, "member": answer.member_id})
        self.waiting[ticket] = ("join", name)

    def sync(self, name: str, **parts: str) -> None:
        assignments = {self.ids[member]: part.encode() for member, part in parts.items()}
        ticket = self.world.send_sync(
            self.ids[name], self.world.generation(), assignments, instance=self.instances.get(name)
        )
        self.waiting[ticket] = ("sync", name)

    def heartbeat(self, *names: str) -> None:
        for name in names:
            code = self.world.heartbeat(
                self.ids[name], self.world.generation(), instance=self.instances.get(name)
            )
            self.lines.append(f"{name}: heartbeat {ErrorCode(code).name}")

    def commit(self, name: str, offset: str) -> None:
        code = self.world.commit(int(offset), self.ids[name], self.world.generation())
        self.lines.append(f"{name}: commit {ErrorCode(code).name}")

    def leave(self, *names: str) -> None:
        rows = self.world.leave(*[self.ids[name] for name in names]).members
        self.lines += [
            f"{name}: leave {ErrorCode(row.error_code).name}" for name, row in zip(names, rows, strict=True)
        ]

    def advance(self, ms: str) -> None:
        self.world.advance(int(ms))

    def restart(self) -> None:
        self.world.restart()
        self.waiting.clear()

    def _tell_answers(self) -> None:
        answered = [ticket for ticket in self.waiting if ticket in self.world.answers]
        for ticket in answered:
            verb, name = self.waiting[ticket]
            if verb == "join" and name not in self.ids:
                self.ids[name] = self.world.answers[ticket].member_id
        for ticket in answered:
            verb, name = self.waiting.pop(ticket)
            answer = self.world.answers[ticket]
            if answer.error_code:
                self.lines.append(f"{name}: {verb} {ErrorCode(answer.error_code).name}")
            elif verb == "sync":
                self.lines.append(f"{name}: sync {answer.assignment.decode() or '-'}")
            else:
                self.lines.append(self._joined(name, answer))

    def _joined(self, name: str, answer: Any) -> str:
        text = f"{name}: join generation {answer.generation_id} {answer.protocol_name}"
        text += f" leader {self.name_of(answer.leader)}"
        if answer.members:
            text += " members " + " ".join(self.name_of(row.member_id) for row in answer.members)
        return text + (" (skip assignment)" if answer.skip_assignment else "")

    def _tell_records(self) -> None:
        for key, value in self.world.log[self._recorded_count :]:
            event = decode_event(key, value)
            if isinstance(event, GroupStored) and event.metadata is not None:
                members = [
                    f"{self.name_of(row.member_id)}={row.assignment.decode() or '-'}"
                    for row in event.metadata.members
                ]
                self.lines.append(f"recorded generation {event.metadata.generation} [{' '.join(members)}]")
            elif isinstance(event, GroupStored):
                self.lines.append("recorded removal of the group")
            else:
                assert event is not None
                offset = "removal" if event.committed is None else event.committed.offset
                self.lines.append(f"recorded {event.topic}-{event.partition} {offset}")
        self._recorded_count = len(self.world.log)


def replay(text: str) -> str:
    """The transcript of the commands in ``text``; comments and blank lines stay."""
    transcript = Transcript()
    for line in text.splitlines():
        if line.startswith("> "):
            transcript.play(line[2:])
        elif line.startswith("#") or not line:
            transcript.lines.append(line)
    return "\n".join(transcript.lines) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    assert replay(path.read_text()) == path.read_text()


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 5


if __name__ == "__main__" and "--rewrite" in sys.argv:
    for file in FILES:
        file.write_text(replay(file.read_text()))
