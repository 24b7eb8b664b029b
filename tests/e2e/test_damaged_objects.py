"""Objects of the tier that are gone or changed: told loudly, for their partition alone, and healed by putting them back.

The damage is done to files of the directory store.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from tests.e2e.failures import check_log, fetch_of, lines, metric
from tests.e2e.tiered import await_tiered, create, figure, hurried, objects, produce, read, topic_id
from tests.servers.raw_client import RawClient
from tierlog.errors import ErrorCode
from tierlog.wire.messages.fetch import FetchResponse

DAMAGES = ("deleted", "flipped", "truncated", "footer")


def test_damage_is_told_loudly_for_its_partition_alone_and_heals(tmp_path: Path) -> None:
    topic, count = "damaged", len(DAMAGES) + 1
    with hurried(tmp_path) as broker:
        create(broker, topic, count)
        written = produce(broker, topic, 600 * count, partitions=count)
        await_tiered(broker, topic)
        id_text = topic_id(broker, topic)
        # The third object of each partition, but of the last.
        broken = {
            p: sorted(name for name in objects(broker, id_text) if f"/{p}/" in name)[2] for p in range(count)
        }
        intact = {p: (broker.objects / broken[p]).read_bytes() for p in range(count)}
        offsets = {p: int(broken[p].rsplit("/", 1)[1].split("-")[0]) for p in range(count)}
        for p, damage in enumerate(DAMAGES):
            do_damage(broker.objects / broken[p], damage)
        log_size = broker.log.stat().st_size
        with RawClient(broker.port) as client:
            # An answer does not wait for partitions that are slow: what is known of them comes with a later one.
            told_times: Counter[int] = Counter()
            while min(told_times[p] for p in range(len(DAMAGES))) < 10:
                found = client.call(fetch_of(topic, offsets), FetchResponse, 12).responses[0].partitions
                for each in found:
                    is_intact = each.partition_index == len(DAMAGES)
                    if each.error_code != ErrorCode.NONE:
                        assert (each.error_code, is_intact) == (ErrorCode.KAFKA_STORAGE_ERROR, False)
                        told_times[each.partition_index] += 1
                    assert is_intact or not each.records, "damaged bytes were served"
                assert any(each.records for each in found if each.partition_index == len(DAMAGES))
            # What lies before it is served.
            assert client.fetch(topic, 0, 0, max_wait_ms=5000).records
        assert metric(broker, "remotefetcherrors_total", topic) >= 10 * len(DAMAGES)
        told = lines(broker, "remote data cannot be read", log_size)
        figure("\n".join(json.dumps(line) for line in told))
        assert len(told) == len(DAMAGES)
        for p in range(len(DAMAGES)):
            assert [line for line in told if broken[p] in line["why"] and line["partition"] == f"{topic}-{p}"]
        assert {line["level"] for line in told} == {"error"}
        written += produce(broker, topic, 600 * count, partitions=count, seed=2)
        await_tiered(broker, topic)
        for p, data in intact.items():
            path = broker.objects / broken[p]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert read(broker, topic, len(written), dict.fromkeys(range(count), 0)) == sorted(written)
        check_log(broker, log_size)


def do_damage(path: Path, damage: str) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        match damage:
            case "deleted":
                path.unlink()
            case "truncated":
                file.truncate(size // 2)
            case "flipped" | "footer":
                at = size // 3 if damage == "flipped" else size - 100
                byte = os.pread(file.fileno(), 1, at)
                os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), at)
