"""Limits that kernel and twin both have are the same in both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tierlog.broker.fetch import consumer_fetch, consumer_watch
from tierlog.broker.following import fetcher
from tierlog.broker.network import connection, frames, socket_writer
from tierlog.log import positions

SOURCE = Path(__file__).parents[3] / "tierlog" / "kernel" / "src"


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("append/remember.c", "POSITIONS_MAX", positions.APPENDED_MAX),
        ("fetch/fetch_consumer.c", "READ_COMMITTED", consumer_fetch.READ_COMMITTED),
        ("fetch/fetch_local.c", "READ_PLACES_MAX", positions.READ_MAX),
        ("fetch/fetch_session.c", "RECHECKED", consumer_watch.RECHECKED),
        ("fetch/fetches.h", "BUFFERS_MAX", socket_writer.IOV_MAX),
        ("follow/follow_ask.c", "FETCH_VERSION", fetcher.FETCH_VERSION),
        ("produce/produce.h", "SIZE_PREFIX_BYTES", frames.SIZE_PREFIX_BYTES),
        ("produce/received.c", "MAX_PIPELINED", connection.MAX_PIPELINED),
    ],
)
def test_they_agree(file: str, name: str, value: int) -> None:
    found = re.findall(rf"^#define {name} (\d+)$", (SOURCE / file).read_text(), re.MULTILINE)
    assert [int(each) for each in found] == [value]
