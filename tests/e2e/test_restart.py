"""What lives through a stop, a kill and a damaged disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from tierlog.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from tierlog.wire.schema import Message

TOPIC = "restarted"
LATEST = -1
CLEAN, KILLED = "stopped cleanly", "killed"


@pytest.fixture
def down(tmp_path: Path) -> BrokerProcess:
    """Not running; with a quick __consumer_offsets."""
    return BrokerProcess(tmp_path / "broker", {"offsets.topic.num.partitions": "1"})


def end(broker: BrokerProcess, how: str) -> None:
    if how == CLEAN:
        assert broker.stop() == 0
    else:
        broker.kill()


def log_file(broker: BrokerProcess, topic: str = TOPIC) -> Path:
    return max((broker.log_dir / f"{topic}-0").glob("*.log"))


def fill(broker: BrokerProcess, count: int = 5) -> list[bytes]:
    values = [b"value %d" % n for n in range(count)]
    with RawClient(broker.port) as client:
        client.create_topic(TOPIC)
        for offset, value in enumerate(values):
            assert client.produce(TOPIC, one_batch(value)).base_offset == offset
    return values


@pytest.mark.parametrize("how", [CLEAN, KILLED])
def test_records_and_offsets_go_on(down: BrokerProcess, how: str) -> None:
    broker = down.start()
    values: list[bytes | None] = [*fill(broker)]
    for n in range(2):
        end(broker, how)
        broker.start()
        with RawClient(broker.port) as client:
            assert client.offset(TOPIC, LATEST) == 5 + n, "what was acknowledged is visible at once"
            values.append(b"after restart %d" % n)
            assert client.produce(TOPIC, one_batch(values[-1])).base_offset == 5 + n
            assert client.values(TOPIC) == values
    assert broker.stop() == 0


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))


def test_a_clean_stop_needs_no_scan_and_a_kill_does(down: BrokerProcess) -> None:
    """A flipped bit in the last batch tells: only who reads it finds it."""
    broker = down.start()
    fill(broker)
    assert broker.stop() == 0
    size = log_file(broker).stat().st_size
    flip(log_file(broker), size - 3)
    broker.start()
    with RawClient(broker.port) as client:
        assert client.offset(TOPIC, LATEST) == 5
    broker.kill()
    broker.start()
    with RawClient(broker.port) as client:
        assert client.offset(TOPIC, LATEST) == 4
        assert client.produce(TOPIC, one_batch(b"on")).base_offset == 4
    assert broker.stop() == 0


@pytest.mark.parametrize("tail", [b"\0" * 300, b"torn", "half a batch"])
def test_a_torn_tail_is_cut(down: BrokerProcess, tail: bytes | str) -> None:
    broker = down.start()
    values: list[bytes | None] = [*fill(broker)]
    broker.kill()
    sound = log_file(broker).stat().st_size
    torn = one_batch(b"never acknowledged" * 10)[:100] if isinstance(tail, str) else tail
    with log_file(broker).open("ab") as file:
        file.write(torn)
    broker.start()
    assert log_file(broker).stat().st_size == sound
    with RawClient(broker.port) as client:
        assert client.values(TOPIC) == values
        assert client.produce(TOPIC, one_batch(b"on")).base_offset == 5
        assert client.values(TOPIC) == [*values, b"on"]
    assert broker.stop() == 0


def test_a_hole_in_the_middle_is_kept_aside_and_said_aloud(down: BrokerProcess) -> None:
    broker = down.start()
    values = fill(broker)
    broker.kill()
    size = log_file(broker).stat().st_size
    flip(log_file(broker), size // 2)
    broker.start()
    with RawClient(broker.port) as client:
        left = client.values(TOPIC)
        assert left == values[: len(left)]
        assert 0 < len(left) < 5
    kept = list((broker.log_dir / f"{TOPIC}-0").glob("*.corrupt"))
    assert len(kept) == 1
    assert kept[0].stat().st_size + log_file(broker).stat().st_size == size
    assert "damaged" in broker.log.read_text() or "lossy" in broker.log.read_text()
    assert broker.stop() == 0


@pytest.mark.parametrize("how", [CLEAN, KILLED])
def test_a_producer_may_repeat_its_last_five_batches(down: BrokerProcess, how: str) -> None:
    """Small segments: a roll among the five must not make anything forgotten."""
    broker = down.start()

    def batch(sequence: int) -> bytes:
        value = b"%d" % sequence + b"x" * 2000
        return one_batch(value, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)

    with RawClient(broker.port) as client:
        client.create_topic(TOPIC, internal_segment_bytes="8192")
        producer_id, epoch = client.init_producer()
        for sequence in range(13):
            assert client.produce(TOPIC, batch(sequence)).base_offset == sequence
    end(broker, how)
    broker.start()
    with RawClient(broker.port) as client:
        for sequence in range(8, 13):
            answer = client.produce(TOPIC, batch(sequence))
            assert (ErrorCode(answer.error_code), answer.base_offset) == (ErrorCode.NONE, sequence)
        assert client.offset(TOPIC, LATEST) == 13
        assert client.produce(TOPIC, batch(14)).error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert client.produce(TOPIC, batch(13)).base_offset == 13
        other, _ = client.init_producer()
        assert other > producer_id, "ids are never given twice"
    assert broker.stop() == 0


def until_loaded(client: RawClient, request: Message, response: type[Message], version: int) -> Message:
    """Asks again while the coordinator loads."""
    deadline_s = time.monotonic() + PATIENT_S
    while True:
        answer = client.call(request, response, version)
        error = getattr(answer, "error_code", 0) or (
            answer.groups[0].error_code if hasattr(answer, "groups") else 0
        )
        if error not in (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE, 16):
            return answer
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize("how", [CLEAN, KILLED])
def test_a_group_keeps_its_members_generation_and_offsets(down: BrokerProcess, how: str) -> None:
    broker = down.start()
    group = "restarted-group"
    with RawClient(broker.port) as client:
        client.create_topic(TOPIC)
        found = client.call(FindCoordinatorRequest(coordinator_keys=[group]), FindCoordinatorResponse)
        assert found.coordinators[0].error_code == ErrorCode.NONE
        protocol = JoinGroupRequestProtocol(name="range", metadata=b"")
        join = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=30_000,
            rebalance_timeout_ms=30_000,
            member_id="",
            protocol_type="consumer",
            protocols=[protocol],
        )
        first = until_loaded(client, join, JoinGroupResponse, 5)
        assert isinstance(first, JoinGroupResponse)
        join.member_id = first.member_id
        joined = client.call(join, JoinGroupResponse, 5)
        assert joined.error_code == ErrorCode.NONE
        member, generation = joined.member_id, joined.generation_id
        assignment = SyncGroupRequestAssignment(member_id=member, assignment=b"all of it")
        sync = SyncGroupRequest(
            group_id=group, generation_id=generation, member_id=member, assignments=[assignment]
        )
        assert client.call(sync, SyncGroupResponse, 3).assignment == b"all of it"
        partition = OffsetCommitRequestPartition(
            partition_index=0, committed_offset=42, committed_metadata="kept"
        )
        commit = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member,
            topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=[partition])],
        )
        committed = client.call(commit, OffsetCommitResponse, 7)
        assert committed.topics[0].partitions[0].error_code == ErrorCode.NONE
    end(broker, how)
    broker.start()
    with RawClient(broker.port) as client:
        wanted = OffsetFetchRequestTopics(name=TOPIC, partition_indexes=[0])
        fetch = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[wanted])])
        answer = until_loaded(client, fetch, OffsetFetchResponse, 8)
        assert isinstance(answer, OffsetFetchResponse)
        found_partition = answer.groups[0].topics[0].partitions[0]
        assert (found_partition.committed_offset, found_partition.metadata) == (42, "kept")
        beat = HeartbeatRequest(group_id=group, generation_id=generation, member_id=member)
        assert client.call(beat, HeartbeatResponse, 3).error_code == ErrorCode.NONE
        beat.generation_id = generation + 1
        assert client.call(beat, HeartbeatResponse, 3).error_code == ErrorCode.ILLEGAL_GENERATION
        sync.assignments = []
        assert client.call(sync, SyncGroupResponse, 3).assignment == b"all of it"
    assert broker.stop() == 0


def test_killed_again_while_it_recovers(down: BrokerProcess) -> None:
    broker = down.start()
    values: list[bytes | None] = [*fill(broker)]
    for attempt in range(6):
        broker.kill()
        broker.launch()
        time.sleep(0.08 * attempt)
    broker.kill()
    broker.start()
    with RawClient(broker.port) as client:
        assert client.values(TOPIC) == values
    assert broker.stop() == 0


def test_a_second_broker_on_the_same_directory_is_refused(down: BrokerProcess, tmp_path: Path) -> None:
    with down as broker:
        second = BrokerProcess(tmp_path / "second", {"log.dirs": str(broker.log_dir)})
        with pytest.raises(RuntimeError, match="in use by another broker"):
            second.start()
        second.kill()


def test_an_emptied_log_directory_is_no_clean_start(down: BrokerProcess) -> None:
    """Everything of one partition is gone: it serves from what is left, and offsets do not begin anew silently."""
    broker = down.start()
    fill(broker)
    assert broker.stop() == 0
    directory = broker.log_dir / f"{TOPIC}-0"
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    broker.start()
    with RawClient(broker.port) as client:
        assert client.offset(TOPIC, LATEST) == 0
    assert "lossy" in broker.log.read_text() or "lost" in broker.log.read_text()
    assert broker.stop() == 0


def test_ports_and_descriptors_are_given_back(down: BrokerProcess) -> None:
    """Twenty topics made and deleted leave no open file behind."""
    with down as broker:
        assert broker.process is not None
        opened = Path(f"/proc/{broker.process.pid}/fd")
        with RawClient(broker.port) as client:
            client.create_topic("warm-up")
            client.produce("warm-up", one_batch(b"x"))
            before = len(os.listdir(opened))
            for n in range(20):
                client.create_topic(f"short-{n}", 3)
                client.produce(f"short-{n}", one_batch(b"x"))
                client.delete_topic(f"short-{n}")
            deadline_s = time.monotonic() + PATIENT_S
            while len(os.listdir(opened)) > before + 5 and time.monotonic() < deadline_s:
                time.sleep(0.05)
            assert len(os.listdir(opened)) <= before + 5
