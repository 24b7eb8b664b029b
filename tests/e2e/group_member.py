"""A member of a classic group as a process: ``python -m tests.e2e.group_member CLIENT BOOTSTRAP TOPIC GROUP``.

Reads until it is ended, ten records at a time, and commits after each ten. Tells what it does, a line each, as
``Follow.java`` does: "assigned COUNT", "read PARTITION OFFSET", "commit" once the last commit is acknowledged, and
"refused WHY".
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError as AiokafkaError
from kafka import KafkaConsumer
from kafka.errors import KafkaError

BATCH = 10
WAIT_MS = 200
SESSION_MS = 6000
HEARTBEAT_MS = 500
LOST_S = 15.0


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def tell_found(found: Mapping[Any, Sequence[Any]], assignment: int, assigned: int) -> int:
    """``assigned``: the size of the assignment that was told last; returns the one that is told now."""
    if assignment != assigned:
        tell("assigned", assignment)
    for records in found.values():
        for record in records:
            tell("read", record.partition, record.offset)
    return assignment


def kafka_python(bootstrap: str, topic: str, group: str) -> None:
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap.split(","),
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=BATCH,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
    )
    assigned, since_s = 0, time.monotonic()
    while True:
        found = consumer.poll(timeout_ms=WAIT_MS)
        assigned = tell_found(found, len(consumer.assignment()), assigned)
        if assigned:
            since_s = time.monotonic()
        elif time.monotonic() - since_s > LOST_S:
            # kafka-python 3.0.12 may lose an answer that comes fast: nothing is under way, and its join never ends.
            os.execv(sys.executable, [sys.executable, "-m", "tests.e2e.group_member", *sys.argv[1:]])
        if found:
            try:
                consumer.commit()
                tell("commit")
            except KafkaError as refusal:
                tell("refused", type(refusal).__name__)


async def aiokafka(bootstrap: str, topic: str, group: str) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
    )
    await consumer.start()
    assigned = 0
    while True:
        found = await consumer.getmany(timeout_ms=WAIT_MS, max_records=BATCH)
        assigned = tell_found(found, len(consumer.assignment()), assigned)
        if found:
            try:
                await consumer.commit()
                tell("commit")
            except AiokafkaError as refusal:
                tell("refused", type(refusal).__name__)


def main() -> None:
    client, bootstrap, topic, group = sys.argv[1:]
    if client == "aiokafka":
        asyncio.run(aiokafka(bootstrap, topic, group))
    else:
        kafka_python(bootstrap, topic, group)


if __name__ == "__main__":
    main()
