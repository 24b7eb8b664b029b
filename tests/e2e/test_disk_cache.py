"""The disk cache of remote reads: what was read twice is there after a restart, true to the byte, without a GET."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.tiered import Row, await_tiered, create, delete, hurried, produce, read, until
from tests.servers.tierlog import BrokerProcess

RECORDS = 800
PREFIX = "tierlog_disk_cache_"


@contextmanager
def cached(directory: Path, **more: str) -> Iterator[BrokerProcess]:
    """A broker with a disk cache."""
    given = {
        "tierlog_remote_cache_dir": str(directory / "cache"),
        "tierlog_remote_cache_max_bytes": str(64 << 20),
    }
    with hurried(directory, **given | more) as broker:
        yield broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with cached(tmp_path) as running:
        yield running


def files(broker: BrokerProcess) -> list[Path]:
    return sorted((broker.directory / "cache" / "broker-1").glob("*.chunk"))


def gets(broker: BrokerProcess) -> float:
    return broker.metrics().get('tierlog_object_requests_total{verb="get_range"}', 0)


def figure(broker: BrokerProcess, name: str) -> float:
    return broker.metrics()[PREFIX + name]


def fill(broker: BrokerProcess, topic: str) -> list[Row]:
    """Segments that two consumers have read, and that the disk has."""
    create(broker, topic)
    written = produce(broker, topic, RECORDS)
    (row,) = await_tiered(broker, topic)
    for _ in range(2):
        assert read(broker, topic, len(written), {0: 0}) == written
    until(lambda: figure(broker, "bytes") > row["remote"]["bytes"] and not figure(broker, "waiting_bytes"))
    return written


@pytest.mark.parametrize("is_killed", [False, True])
def test_after_a_restart_it_is_read_without_a_get(broker: BrokerProcess, is_killed: bool) -> None:
    written = fill(broker, "kept")
    entries = figure(broker, "entries")
    if is_killed:
        broker.kill()
    else:
        assert broker.stop() == 0
    broker.start()
    assert figure(broker, "entries") == entries == len(files(broker))
    assert read(broker, "kept", len(written), {0: 0}) == written
    assert gets(broker) == 0
    assert figure(broker, "hits_total") > 0


def test_what_is_damaged_is_fetched_again_and_never_served(broker: BrokerProcess) -> None:
    written = fill(broker, "damaged")
    broker.stop()
    whole, cut, foreign, emptied, *_ = files(broker)
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 1
    whole.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    foreign.write_bytes(bytes(foreign.stat().st_size))
    emptied.write_bytes(b"")
    broker.start()
    assert read(broker, "damaged", len(written), {0: 0}) == written
    assert figure(broker, "corrupt_total") == 4
    assert gets(broker) >= 4
    assert files(broker)[0] != whole or whole.read_bytes() != data


def test_entries_of_a_deleted_topic_go(broker: BrokerProcess) -> None:
    fill(broker, "gone")
    kept = fill(broker, "stays")
    before = len(files(broker))
    delete(broker, "gone")
    until(lambda: len(files(broker)) < before and figure(broker, "entries") == len(files(broker)))
    assert read(broker, "stays", len(kept), {0: 0}) == kept
