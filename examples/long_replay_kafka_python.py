"""Reads a topic from far back to where it ends now, with kafka-python: ``BOOTSTRAP TOPIC [DAYS]``."""

import os
import sys
import time

from kafka import KafkaConsumer, TopicPartition

bootstrap, topic, days = [*sys.argv[1:], *(None,) * 3][:3]
topic = topic or "flights"
consumer = KafkaConsumer(
    bootstrap_servers=bootstrap or os.environ.get("BOOTSTRAP", "127.0.0.1:9092"),
    group_id=None,  # no group, so no offsets are moved
    enable_auto_commit=False,
    fetch_max_bytes=64 << 20,
    max_partition_fetch_bytes=8 << 20,
)
partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
consumer.assign(partitions)
ends = consumer.end_offsets(partitions)
consumer.seek_to_beginning(*partitions)
if days:
    start_ms = int((time.time() - float(days) * 86_400) * 1_000)
    for partition, found in consumer.offsets_for_times(dict.fromkeys(partitions, start_ms)).items():
        consumer.seek(partition, found.offset if found else ends[partition])

records = value_bytes = 0
begun = time.monotonic()
while left := [each for each in partitions if consumer.position(each) < ends[each]]:
    consumer.pause(*set(partitions) - set(left))
    for partition, found in consumer.poll(timeout_ms=1_000).items():
        inside = [record for record in found if record.offset < ends[partition]]
        records += len(inside)
        value_bytes += sum(len(record.value or b"") for record in inside)
consumer.close()
seconds = time.monotonic() - begun
print(f"{records:,} records, {value_bytes:,} bytes of values, {records / seconds:,.0f} records/s")
