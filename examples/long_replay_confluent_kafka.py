"""Reads a topic from far back to where it ends now, with confluent-kafka: ``BOOTSTRAP TOPIC [DAYS]``."""

import os
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

bootstrap, topic, days = [*sys.argv[1:], *(None,) * 3][:3]
topic = topic or "flights"
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap or os.environ.get("BOOTSTRAP", "127.0.0.1:9092"),
        "group.id": "long-replay",  # librdkafka wants a name; without a commit, no group comes of it
        "enable.auto.commit": False,
        "fetch.message.max.bytes": 8 << 20,
        "queued.max.messages.kbytes": 128 << 10,
    }
)
numbers = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
ends = {
    number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in numbers
}
starts = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers]
if days:
    start_ms = int((time.time() - float(days) * 86_400) * 1_000)
    asked = [TopicPartition(topic, number, start_ms) for number in numbers]
    starts = consumer.offsets_for_times(asked, timeout=10)
# A start behind the last record is -1: the end.
left = {each.partition for each in starts if each.offset != -1 and ends[each.partition]}
consumer.assign([each for each in starts if each.partition in left])

records = value_bytes = 0
begun = time.monotonic()
while left:
    for message in consumer.consume(10_000, timeout=1):
        if message.error():
            raise KafkaException(message.error())
        offset = message.offset()
        if offset is not None and offset < ends[message.partition()]:
            records += 1
            value_bytes += len(message.value() or b"")
    # Positions, not records, say when a partition is done: compaction and transactions leave holes.
    assigned = [TopicPartition(topic, number) for number in left]
    left -= {each.partition for each in consumer.position(assigned) if each.offset >= ends[each.partition]}
consumer.close()
seconds = time.monotonic() - begun
print(f"{records:,} records, {value_bytes:,} bytes of values, {records / seconds:,.0f} records/s")
