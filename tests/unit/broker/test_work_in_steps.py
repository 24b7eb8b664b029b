"""What handlers do with very many items they do in steps: counted in lines, so that no load of the machine matters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, GeneratorType, SimpleNamespace
from typing import Any, cast

import pytest

from tests.fuzz.cost_inputs import World, build, fillings
from tests.unit.broker.test_config_effects import running
from tierlog.broker.api_table import ROWS
from tierlog.broker.handlers.create_topics import answer
from tierlog.broker.handlers.services import Services
from tierlog.broker.network.context import RequestContext
from tierlog.broker.node import Broker
from tierlog.metadata.control.topics import TopicResult
from tierlog.wire.codec import decode_exact, encode_bytes
from tierlog.wire.schema import Message

ITEMS = 12_000  # more than an admin request may name
LINES_MAX = ITEMS // 2
"""No pass over all items fits into it."""


class Lines:
    """Counts the lines of the project that are executed within ``with``."""

    count = 0

    def __enter__(self) -> None:
        self.count = 0
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        self.count += event == "line"
        return self._trace


def longest_step(steps: GeneratorType[None, None, Any], lines: Lines) -> tuple[Any, int]:
    """The result, and the most lines between two pauses."""
    longest = 0
    while True:
        try:
            with lines:
                next(steps)
        except StopIteration as end:
            return end.value, max(longest, lines.count)
        longest = max(longest, lines.count)


LONG = (
    (3, 1, "topics"),
    (3, 12, "topics"),
    (8, 2, "topics"),
    (9, 1, "topics"),
    (9, 7, "topics"),
    (9, 10, "groups.topics"),
    (16, 5, "states_filter"),
    (16, 5, "types_filter"),
    (19, 4, "topics"),
    (37, 0, "topics"),
    (46, 0, "topics"),
)
"""(API key, version, array)."""


async def handled_at_once(broker: Broker, key: int, version: int, path: str) -> int:
    """The most lines in one step of the handler. What it leaves to a task is not looked at."""
    row = ROWS[key]
    way = fillings(World({"t": (bytes(range(16)), 1)}, 1))["unknown"]
    request = build(row.spec.request, version, tuple(path.split(".")), ITEMS, way)
    decoded: Message = decode_exact(
        row.spec.request, version, memoryview(bytearray(encode_bytes(request, version)))
    )
    session = SimpleNamespace(client_software="", closing=False, sent_away=None, traffic=None)
    (listener,) = {endpoint.listener for endpoint in broker.endpoints}
    ctx = RequestContext(key, version, 1, "test", listener, "127.0.0.1", 0.0, session)
    lines = Lines()
    with lines:
        response = row.handle(broker.services, ctx, decoded)
    longest = lines.count
    if isinstance(response, GeneratorType):
        response, in_steps = longest_step(response, lines)
        longest = max(longest, in_steps)
    close = getattr(response, "close", None) or getattr(response, "cancel", None)
    if close is not None:
        close()
    return longest


@pytest.mark.parametrize(("key", "version", "path"), LONG)
async def test_no_step_goes_over_all_items(tmp_path: Path, key: int, version: int, path: str) -> None:
    async with running(tmp_path) as broker:
        assert await handled_at_once(broker, key, version, path) <= LINES_MAX


def test_configs_that_a_version_cannot_tell_are_not_looked_up() -> None:
    made = TopicResult("t", partition_count=3, replication_factor=1)
    services = cast("Services", None)  # where the defaults would be looked up
    assert answer(services, made, tells_configs=False).configs == []
    with pytest.raises(AttributeError):
        answer(services, made, tells_configs=True)
