"""Reads a topic from far back to where it ends now, with aiokafka: ``BOOTSTRAP TOPIC [DAYS]``."""

import asyncio
import os
import sys
import time

from aiokafka import AIOKafkaConsumer


async def main(bootstrap: str | None = None, topic: str = "flights", days: str | None = None) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap or os.environ.get("BOOTSTRAP", "127.0.0.1:9092"),
        group_id=None,  # no group: all partitions are read, and no offsets are moved
        enable_auto_commit=False,
        fetch_max_bytes=64 << 20,
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    try:
        partitions = sorted(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        if days:
            start_ms = int((time.time() - float(days) * 86_400) * 1_000)
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, start_ms))
            for partition, start in found.items():
                consumer.seek(partition, start.offset if start else ends[partition])

        records = value_bytes = 0
        begun = time.monotonic()
        while left := [each for each in partitions if await consumer.position(each) < ends[each]]:
            for partition, batch in (await consumer.getmany(*left, timeout_ms=1_000)).items():
                inside = [record for record in batch if record.offset < ends[partition]]
                records += len(inside)
                value_bytes += sum(len(record.value or b"") for record in inside)
        seconds = time.monotonic() - begun
        print(f"{records:,} records, {value_bytes:,} bytes of values, {records / seconds:,.0f} records/s")
    finally:
        await consumer.stop()


asyncio.run(main(*sys.argv[1:]))
