"""A broker leaves the cluster for good: nothing new comes to it, what it had is elsewhere, and its id is free again."""

from __future__ import annotations

import shutil
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.e2e.test_cli import Answer, tierlog
from tests.e2e.test_moves import partitions
from tests.e2e.test_reassign import PARTITIONS, TOPIC, TOTAL_BYTES, configs, create, write
from tests.servers.several import Several, wait_until

OFFSETS = "__consumer_offsets"


def decommission(several: Several, *arguments: str) -> Answer:
    return tierlog("cluster", "decommission", "3", *arguments, "-o", "json", bootstrap=several[1].bootstrap)


def held_by_3(several: Several, topic: str) -> int:
    return sum(3 in row.replica_nodes for row in partitions(several, 1, topic))


def create_anywhere(several: Several, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": several[1].bootstrap})
    admin.create_topics([NewTopic(topic, 6, 2)])[topic].result(20)


def commit_an_offset(several: Several) -> None:
    consumer = Consumer(
        {"bootstrap.servers": several[1].bootstrap, "group.id": "g", "enable.auto.commit": False}
    )
    consumer.commit(offsets=[TopicPartition(TOPIC, 0, 1)], asynchronous=False)
    consumer.close()


def test_a_broker_leaves_for_good(tmp_path: Path) -> None:
    several = Several(
        tmp_path,
        remote_log_storage_system_enable="false",
        offsets_topic_num_partitions="2",
        offsets_topic_replication_factor="3",
    )
    with several:
        create(several, (3, 1))
        write(several)
        commit_an_offset(several)
        assert held_by_3(several, OFFSETS) == 2

        # Interrupted: it has begun, and says how far it is.
        first = decommission(several, "--throttle", "1000000", "--wait-timeout", "2")
        assert (first.code, first.json["state"]) == (1, "draining"), first.err
        assert 0 < first.json["left"] <= PARTITIONS + 2
        assert 0 < first.json["bytes_left"] < TOTAL_BYTES
        create_anywhere(several, "meanwhile")
        assert held_by_3(several, "meanwhile") == 0

        # Taken up again, faster; it cannot end while the broker runs.
        second = decommission(several, "--throttle", "50000000", "--wait-timeout", "10")
        assert (second.code, second.json["state"]) == (1, "drained"), second.err
        assert [held_by_3(several, topic) for topic in (TOPIC, OFFSETS, "meanwhile")] == [0, 0, 0]
        assert all(len(row.isr_nodes) == 2 for row in partitions(several, 1, OFFSETS))
        assert configs(several) == ["", "", None, None, None]

        several[3].stop()
        last = decommission(several, "--wait-timeout", "15")
        assert (last.code, last.json["state"]) == (0, "unregistered"), last.err
        assert decommission(several).code == 1  # there is none any more

        # Another broker may take the id, and is used.
        shutil.rmtree(several[3].directory)
        several[3].start()
        wait_until(lambda: held_by_3(several, OFFSETS) == 2, "the new broker gets no replicas", 15)


def test_a_broker_that_is_needed_stays_as_it_was(tmp_path: Path) -> None:
    with Several(tmp_path, remote_log_storage_system_enable="false") as several:
        create(several, (1, 2, 3))
        refused = decommission(several)
        assert refused.code == 1
        assert "has 3 replicas, and there are 2 brokers to hold them" in refused.err
        create_anywhere(several, "after")
        assert held_by_3(several, "after") > 0
