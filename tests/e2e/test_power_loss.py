"""All three replicas lose their power at once, under load, with ``flush.mode=ack``: nothing that was acknowledged is lost.

The power loss is played: kill -9, then of each log only what had to be on the disk is left (what was acknowledged, at least)
and the session of the broker is one of an earlier boot, so that nobody may trust the page cache.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.test_moves import consumed, create, partitions
from tests.e2e.test_replication import PARTITIONS, TOPIC, Load
from tests.patience import PATIENT_S
from tests.servers.several import Several, wait_until
from tierlog.broker.disk.session_file import FILE_NAME
from tierlog.broker.replicas.complete_replicas import read_names
from tierlog.log.files.checkpoints import encode_topic_id, read_partition_metadata
from tierlog.records.batch import LOG_OVERHEAD_BYTES, parse_header


def another_boot(log_dir: Path) -> None:
    path = log_dir / FILE_NAME
    session = json.loads(path.read_text())
    path.write_text(json.dumps({**session, "boot_id": "before the power was lost"}))


def cut_behind(log_dir: Path, partition: int, end_offset: int) -> int:
    """Leaves the batches up to the one that holds the record before ``end_offset``; returns the bytes that are gone."""
    (path,) = (log_dir / f"{TOPIC}-{partition}").glob("*.log")
    data = path.read_bytes()
    position = 0
    while len(data) - position >= LOG_OVERHEAD_BYTES:
        header = parse_header(memoryview(data), position)
        if header.base_offset >= end_offset:
            break
        position += LOG_OVERHEAD_BYTES + int.from_bytes(data[position + 8 : position + 12], "big")
    kept = data[:position]
    path.write_bytes(kept)
    return len(data) - len(kept)


@pytest.mark.parametrize(
    "cut", [(1, 2, 3), (1,), (2, 3)], ids=["all alike", "one is shorter", "one is longer"]
)
def test_a_power_loss_of_all_replicas_loses_nothing(tmp_path: Path, cut: tuple[int, ...]) -> None:
    with Several(tmp_path, remote_log_storage_system_enable="false", flush_mode="ack") as several:
        create(several, [1, 2, 3])
        everywhere = ",".join(broker.bootstrap for broker in several.brokers.values())
        with Load(everywhere) as load:
            wait_until(lambda: load.count > 400, "nothing is acknowledged", 20)
            lose_power(several, load, cut)
            come_back(several, load, (1, 2, 3))
        assert load.errors == []
        check_all_is_there(consumed(several), load)


def test_one_that_never_returns_is_not_waited_for(tmp_path: Path) -> None:
    """The others can prove that they have everything that was acknowledged."""
    properties = {
        "remote_log_storage_system_enable": "false",
        "flush_mode": "ack",
        "min_insync_replicas": "2",
    }
    with Several(tmp_path, **properties) as several:
        create(several, [1, 2, 3])
        everywhere = ",".join(broker.bootstrap for broker in several.brokers.values())
        with Load(everywhere) as load:
            wait_until(lambda: load.count > 200, "nothing is acknowledged", 20)
            wait_until(
                lambda: all(are_whole(broker.log_dir) for broker in several.brokers.values()),
                "not all are whole",
            )
            lose_power(several, load, (1, 2, 3))
            come_back(several, load, (1, 2))
        assert load.errors == []
        check_all_is_there(consumed(several), load)


def are_whole(log_dir: Path) -> bool:
    """All replicas of the topic; others come as internal topics do."""
    ids = [decoded_topic_id(log_dir / f"{TOPIC}-{n}") for n in range(PARTITIONS)]
    return {f"{topic_id}-{n}" for n, topic_id in enumerate(ids)} <= read_names(log_dir)


def decoded_topic_id(directory: Path) -> str:
    topic_id = read_partition_metadata(directory)
    assert topic_id is not None
    return encode_topic_id(topic_id)


def lose_power(several: Several, load: Load, cut: tuple[int, ...]) -> None:
    load.cut_off.clear()
    several.kill()
    assert load.cut_off.wait(PATIENT_S)
    ends = {
        n: max(offset for offset, _ in load.acknowledged[n] if offset is not None) + 1
        for n in range(PARTITIONS)
    }
    for node_id, broker in several.brokers.items():
        another_boot(broker.log_dir)
        if node_id in cut:
            for n in range(PARTITIONS):
                cut_behind(broker.log_dir, n, ends[n])


def come_back(several: Several, load: Load, nodes: tuple[int, ...]) -> None:
    for node_id in nodes:
        several[node_id].launch()
    for node_id in nodes:
        wait_until(several[node_id].is_ready, f"broker {node_id} is not ready")
    wait_until(
        lambda: all(set(row.isr_nodes) == set(nodes) for row in partitions(several, 1)),
        "not all are in sync",
    )
    seen = load.count
    wait_until(lambda: load.count > seen + 200, "it does not go on")


def check_all_is_there(found: dict[int, list[tuple[int, bytes]]], load: Load) -> None:
    for n in range(PARTITIONS):
        assert [offset for offset, _ in found[n]] == list(range(len(found[n])))
        values = [value for _, value in found[n]]
        assert values == sorted(set(values)), f"partition {n}: doubled or moved"
        at = dict(found[n])
        lost = [(o, v) for o, v in load.acknowledged[n] if o is not None and at.get(o) != v]
        assert lost == [], f"partition {n}"
        assert {value for _, value in load.acknowledged[n]} <= set(values), f"partition {n}"
