"""What a sink is, and nothing: the sink ``null``."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tierlog.errors import UserError
from tierlog.replay.reading import Chunk
from tierlog.replay.running.state import State
from tierlog.types import TopicPartition

Done = dict[TopicPartition, list[tuple[int, int]]]


class Sink(Protocol):
    """Every method raises UserError."""

    needs_state: bool
    """Whether it goes on from what ``settle`` wrote into the state, and not from what it has."""
    needs_order: str
    """Why the records of a partition must come in order of their offsets; empty where any order will do."""
    is_kept: bool
    """Whether anything is left of the records after ``close``, through a power loss too."""

    def start(self, state: State, *, is_resumed: bool) -> Done:
        """Makes ready, and says which offsets are there for good."""
        ...

    def write(self, chunk: Chunk) -> None: ...

    def settle(self, state: State) -> None:
        """Makes all that was written so far durable; a sink that needs the state says there how far that is."""
        ...

    def close(self) -> None:
        """Everything has been written."""
        ...

    def give_up(self) -> None:
        """Instead of ``close``, after an error: lets go of what it holds, and nothing more becomes visible. Never raises."""
        ...


def nothing() -> None:
    """Before a commit that nothing else has to come before."""


class NullSink:
    """Records are read, and counted by the driver."""

    needs_state = is_kept = False
    needs_order = ""

    def start(self, state: State, *, is_resumed: bool) -> Done:
        return {}

    def write(self, chunk: Chunk) -> None:
        pass

    def settle(self, state: State) -> None:
        pass

    def close(self) -> None:
        pass

    def give_up(self) -> None:
        pass


@contextmanager
def explained(what: object) -> Iterator[None]:
    """Errors of a disk as UserError, with the next step."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        step = "go on with --resume"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            step = "make room, then go on with --resume"
        raise UserError(f"{what}: {error.strerror or error}; {step}, what was written stays") from error
