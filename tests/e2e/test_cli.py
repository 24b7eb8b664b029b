"""The command line as users run it: a process each, on a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml
from kafka import KafkaProducer

from tests.patience import PATIENT_S
from tests.servers.ports import free_ports
from tests.servers.tierlog import BrokerProcess


class Answer:
    """Of one command."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def tierlog(*arguments: str, bootstrap: str = "", **env: str) -> Answer:
    command = [sys.executable, "-m", "tierlog", *arguments]
    environment = {**os.environ, "TIERLOG_BOOTSTRAP_SERVER": bootstrap, **env}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=PATIENT_S,
        check=False,
    )
    return Answer(done)


def test_the_life_of_a_topic(broker: BrokerProcess) -> None:
    at = broker.bootstrap
    created = tierlog("topic", "create", "cli-life", "-p", "3", "-c", "retention.ms=1000", bootstrap=at)
    assert (created.code, created.err) == (0, "")
    assert "cli-life" in created.out

    again = tierlog("topic", "create", "cli-life", "cli-other", "--format", "json", bootstrap=at)
    assert again.code == 1
    assert [row["topic"] for row in again.json] == ["cli-other"]
    assert "TOPIC_ALREADY_EXISTS" in again.err
    calm = tierlog("topic", "create", "cli-life", "--if-not-exists", "-o", "json", bootstrap=at)
    assert (calm.code, calm.json) == (0, [{"topic": "cli-life", "created": False}])

    changed = tierlog(
        "topic", "alter", "cli-life", "-c", "segment.bytes=2097152", "--delete-config", "retention.ms",
        "-p", "5", "-o", "json", bootstrap=at,
    )  # fmt: skip
    assert changed.json["changes"] == [
        {"config": "segment.bytes", "before": "1073741824", "after": "2097152"},
        {"config": "retention.ms", "before": "1000", "after": "604800000"},
        {"config": "partitions", "before": "3", "after": "5"},
    ]

    (described,) = tierlog("topic", "describe", "cli-life", "-o", "json", bootstrap=at).json
    assert described["configs"] == {"segment.bytes": {"value": "2097152", "source": "topic"}}
    assert [row["partition"] for row in described["partitions"]] == list(range(5))
    assert described["partitions"][0] == {
        "partition": 0,
        "leader": 1,
        "leader_epoch": 0,
        "replicas": [1],
        "isr": [1],
        "offline": [],
        "start_offset": 0,
        "end_offset": 0,
    }

    deleted = tierlog("topic", "delete", "cli-life", "cli-absent", "-y", "-o", "json", bootstrap=at)
    assert (deleted.code, deleted.json) == (1, [{"topic": "cli-life", "deleted": True}])
    assert "cli-absent" in deleted.err
    gone = tierlog("topic", "delete", "cli-life", "--if-exists", "-y", "-o", "json", bootstrap=at)
    assert (gone.code, gone.json) == (0, [{"topic": "cli-life", "deleted": False}])


def test_nothing_changes_unless_all_of_it_is_valid(broker: BrokerProcess) -> None:
    at = broker.bootstrap
    assert tierlog("topic", "create", "cli-valid", "-p", "2", bootstrap=at).code == 0
    refused = tierlog("topic", "alter", "cli-valid", "-c", "retention.ms=5", "-p", "1", bootstrap=at)
    assert refused.code == 1
    assert "INVALID_PARTITIONS" in refused.err
    dry = tierlog("topic", "alter", "cli-valid", "-c", "retention.ms=5", "--dry-run", bootstrap=at)
    assert dry.code == 0
    assert tierlog("topic", "create", "cli-dry", "--dry-run", bootstrap=at).code == 0
    (described,) = tierlog("topic", "describe", "cli-valid", "-o", "json", bootstrap=at).json
    assert (described["configs"], len(described["partitions"])) == ({}, 2)
    listed = tierlog("topic", "list", "^cli-", "-o", "yaml", bootstrap=at)
    names = [row["topic"] for row in yaml.safe_load(listed.out)]
    assert "cli-valid" in names
    assert "cli-dry" not in names


def test_storage_tells_three_figures(broker: BrokerProcess) -> None:
    at = broker.bootstrap
    configs = ["segment.bytes=1048576", "local.retention.bytes=1048576", "remote.storage.enable=true"]
    flags = [part for config in configs for part in ("-c", config)]
    assert tierlog("topic", "create", "cli-storage", *flags, bootstrap=at).code == 0
    producer = KafkaProducer(bootstrap_servers=at, linger_ms=20, batch_size=1 << 17)
    for _ in range(5_000):
        producer.send("cli-storage", value=b"x" * 1000)
    producer.close()

    deadline = time.monotonic() + PATIENT_S
    while True:
        answer = tierlog("storage", "describe", "cli-storage", "-o", "json", bootstrap=at)
        assert (answer.code, answer.err) == (0, "")
        total, (row,) = answer.json["total"], answer.json["partitions"]
        if row["tiered_end_offset"] == row["active_base_offset"]:
            break
        assert time.monotonic() < deadline, answer.out
    assert total["remote"]["segments"] >= 4
    assert total["both"]["segments"] == total["local"]["segments"] - 1
    assert total["remote"]["bytes"] >= total["both"]["bytes"] > 0
    assert 5_000_000 < total["held_once_bytes"] < 6_000_000
    offsets = ("log_start_offset", "local_log_start_offset", "tiered_end_offset", "high_watermark")
    assert [row[name] for name in offsets] == sorted(row[name] for name in offsets)
    assert (row["high_watermark"], row["log_end_offset"], row["leader"]) == (5_000, 5_000, 1)

    explained = tierlog("storage", "explain-retention", "cli-storage", "-o", "json", bootstrap=at)
    assert (explained.code, explained.err) == (0, "")
    (told,) = explained.json["partitions"]
    here = [each for each in told["segments"] if each["where"] == "local"]
    there = [each for each in told["segments"] if each["where"] == "remote"]
    assert (len(here), len(there)) == (total["local"]["segments"], total["remote"]["segments"])
    assert sum(each["bytes"] for each in there) == total["remote"]["bytes"]
    assert {each["verdict"] for each in there} == {"kept"}
    assert {each["rule"] for each in there} == {"retention.ms=604800000 is not over"}
    assert all(each["due_ms"] == each["newest_ms"] + 604_800_001 for each in there)
    assert here[-1]["rule"].startswith("active; ")
    assert "local.retention.bytes=1048576 is not reached" in here[-1]["rule"]
    absent = tierlog("storage", "explain-retention", "cli-storage", "-p", "9", bootstrap=at)
    assert (absent.code, absent.out) == (1, "")
    assert "has no partition 9; it has 1" in absent.err
    seen = tierlog("storage", "explain-retention", "cli-storage", "-p", "0", bootstrap=at).out
    assert all(heading in seen for heading in ("OFFSETS", "VERDICT", "RULE", "WHEN", "kept"))

    drawn = tierlog("storage", "describe", "cli-storage", bootstrap=at).out
    assert all(heading in drawn for heading in ("TIERED END", "HIGH WATERMARK", "LOCAL", "REMOTE", "BOTH"))
    explicit = tierlog(
        "storage", "describe", "cli-storage", "--http", f"127.0.0.1:{broker.http_port}", bootstrap=at
    )
    assert explicit.code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("topic", "describe", "cli-nowhere"), "there is no topic cli-nowhere"),
        (("topic", "alter", "cli-nowhere", "-p", "2"), "there is no topic cli-nowhere"),
        (("storage", "describe", "cli-nowhere"), "there is no topic cli-nowhere"),
        (("storage", "explain-retention", "cli-nowhere"), "there is no topic cli-nowhere"),
        (("topic", "list", "("), "is not a regular expression"),
        (("topic", "create", "a/b"), "INVALID_TOPIC_EXCEPTION"),
        (("topic", "create", "cli-x", "-r", "3"), "try -r 1"),
        (("topic", "create", "cli-x", "-c", "retenton.ms=1"), "did you mean retention.ms?"),
        (("topic", "create", "cli-x", "-c", "retention.ms"), "expected KEY=VALUE"),
        (("topic", "delete", "cli-x"), "say --yes"),
    ],
)
def test_failures_are_one_line_with_a_next_step(
    broker: BrokerProcess, arguments: tuple[str, ...], said: str
) -> None:
    answer = tierlog(*arguments, "-o", "json", bootstrap=broker.bootstrap)
    assert answer.code == 1
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.out == "" or answer.json == []


def test_wrong_usage_is_exit_code_2(broker: BrokerProcess) -> None:
    at = broker.bootstrap
    wrong = (
        ("topic", "no-such-verb"),
        ("topic", "list", "-o", "xml"),
        ("topic", "alter", "a"),
        ("topic", "create"),
    )
    for arguments in wrong:
        answer = tierlog(*arguments, bootstrap=at)
        assert (answer.code, answer.out) == (2, "")


def test_a_broker_that_is_not_there() -> None:
    (port,) = free_ports(1)
    answer = tierlog("topic", "list", bootstrap=f"127.0.0.1:{port}")
    assert answer.code == 1
    assert "is the broker running?" in answer.err
    wrong = tierlog("topic", "list", "-b", "nohost")
    assert "expected HOST:PORT" in wrong.err


def test_up_says_what_is_in_the_way(broker: BrokerProcess) -> None:
    port = str(broker.port)
    taken = tierlog("up", "--data", str(broker.directory / "second"), "--port", port, "--http-port", "-1")
    assert taken.code == 1
    assert port in taken.err.splitlines()[-1]
    unknown = tierlog("up", "--data", str(broker.directory / "third"), "--override", "num.partition=3")
    assert unknown.code == 1
    assert "num.partitions" in unknown.err
