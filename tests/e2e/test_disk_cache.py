"""The disk cache of remote reads: what was read twice is there after a restart, true to the byte, without a GET."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.tiered import Row, await_tiered, create, delete, hurried, produce, read, topic_id, until
from tests.servers.tierlog import BrokerProcess

RECORDS = 800
PREFIX = "tierlog_disk_cache_"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    directory = tmp_path_factory.mktemp("cached")
    given = {
        "tierlog_remote_cache_dir": str(directory / "cache"),
        "tierlog_remote_cache_max_bytes": str(64 << 20),
    }
    with hurried(directory, **given) as running:
        yield running


def files(broker: BrokerProcess, topic: str = "") -> list[Path]:
    """All, or those of one topic."""
    of = base64.urlsafe_b64decode(topic_id(broker, topic) + "==").hex() if topic else ""
    return sorted((broker.directory / "cache" / "broker-1").glob(f"{of}*.chunk"))


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
    segments = row["remote"]["segments"]
    until(lambda: len(files(broker, topic)) >= 2 * segments and not figure(broker, "waiting_bytes"))
    return written


def test_after_a_restart_it_is_read_without_a_get(broker: BrokerProcess) -> None:
    written = fill(broker, "kept")
    entries = figure(broker, "entries")
    assert entries == len(files(broker))
    for end in (broker.kill, broker.stop):
        end()
        broker.start()
        assert figure(broker, "entries") == entries
        assert read(broker, "kept", len(written), {0: 0}) == written
        assert gets(broker) == 0
        assert figure(broker, "hits_total") > 0


def test_what_is_damaged_is_fetched_again_and_never_served(broker: BrokerProcess) -> None:
    written = fill(broker, "damaged")
    whole, cut, foreign, emptied, *_ = files(broker, "damaged")
    broker.stop()
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


def test_entries_of_a_deleted_topic_go(broker: BrokerProcess) -> None:
    fill(broker, "gone")
    kept = fill(broker, "stays")
    dead = set(files(broker, "gone"))
    delete(broker, "gone")
    until(lambda: not dead & set(files(broker)))
    assert files(broker, "stays")
    assert read(broker, "stays", len(kept), {0: 0}) == kept
