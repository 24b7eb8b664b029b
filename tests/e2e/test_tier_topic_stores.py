"""Two topics of one broker in two directories, with real clients: nothing of one is ever in the other's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from tests.bucket_reader import Bucket
from tests.e2e.test_cli import tierlog
from tests.e2e.tiered import (
    alter,
    await_tiered,
    create,
    delete,
    delete_records,
    hurried,
    produce,
    read,
    topic_id,
    until,
)
from tests.servers.tierlog import BrokerProcess
from tiering.keys import CLUSTER_MARKER

COUNT = 600


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with hurried(tmp_path / "broker") as running:
        yield running


def files(directory: Path, part: str = "") -> set[str]:
    """Objects whose name contains ``part``; folders may go while they are listed."""
    while True:
        try:
            found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
        except FileNotFoundError:
            continue
        return {name for name in found if part in name and not name.startswith((".lock", ".tmp"))}


def test_two_topics_in_two_directories(broker: BrokerProcess, tmp_path: Path) -> None:
    other = tmp_path / "other"
    create(broker, "here")
    create(broker, "there", tierlog_object_store=f"dir:{other}")
    ids = {topic: topic_id(broker, topic) for topic in ("here", "there")}
    written = {topic: produce(broker, topic, COUNT, seed=len(topic)) for topic in ids}
    for topic in ids:
        await_tiered(broker, topic)

    def check() -> None:
        for topic, rows in written.items():
            assert read(broker, topic, COUNT, {0: 0}) == rows
        assert files(broker.objects, ids["here"]) and not files(broker.objects, ids["there"])
        assert files(other, ids["there"]) and not files(other, ids["here"])
        assert all(ids["there"] in name or name == CLUSTER_MARKER for name in files(other))

    check()
    until(lambda: files(other, "/head-"))
    until(lambda: files(other, "/topics/"))
    assert list(Bucket.of_directory(other).topics()) == ["there"]  # it can be read by itself
    with pytest.raises(KafkaException, match="the tier of topic there lies in"):
        alter(broker, "there", tierlog_object_store=f"dir:{tmp_path / 'third'}")
    for command in (
        ("tier", "status"),
        ("tier", "plan"),
        ("storage", "describe"),
        ("storage", "explain-retention"),
    ):
        assert f"dir:{other}" in tierlog(*command, "there", bootstrap=broker.bootstrap).out
        assert "object store dir:" not in tierlog(*command, "here", bootstrap=broker.bootstrap).out
    looked = tierlog("storage", "doctor", "--topic", "there", "-o", "json", bootstrap=broker.bootstrap)
    assert (looked.json["object_store"], looked.code) in [
        (f"dir:{other}", 0),
        (f"dir:{other}", 1),
    ]  # or little room
    assert broker.stop() == 0
    broker.start()
    check()
    broker.kill()
    broker.start()
    check()

    segments = len(files(other, ".seg"))
    assert delete_records(broker, "there", COUNT // 2) == COUNT // 2
    until(lambda: len(files(other, ".seg")) <= segments * 2 // 3)
    assert read(broker, "there", COUNT // 2, {0: COUNT // 2}) == written["there"][COUNT // 2 :]
    delete(broker, "there")
    create(broker, "there")  # at once, and in the brokers' own
    again = produce(broker, "there", COUNT, seed=9)
    until(lambda: not [name for name in files(other, ids["there"]) if "/deleted/" not in name])
    await_tiered(broker, "there")
    assert read(broker, "there", COUNT, {0: 0}) == again
    assert files(broker.objects, topic_id(broker, "there")) and not files(other, topic_id(broker, "there"))
    assert read(broker, "here", COUNT, {0: 0}) == written["here"]
