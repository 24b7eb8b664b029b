"""The text files beside the logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierlog.errors import StorageError
from tierlog.log.files import checkpoints, names
from tierlog.types import TopicPartition

A, B = TopicPartition("a.b_c-d", 0), TopicPartition("a.b_c-d", 11)


def test_offsets_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / checkpoints.RECOVERY_POINTS
    assert checkpoints.read_offsets(path) == {}
    checkpoints.write_offsets(path, {B: 7, A: 2**40})
    assert path.read_text() == f"0\n2\na.b_c-d 0 {2**40}\na.b_c-d 11 7\n"
    assert checkpoints.read_offsets(path) == {A: 2**40, B: 7}
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "1\n0\n", "0\n2\na 0 1\n", "0\n1\na 0\n", "0\n1\na x 1\n", "\0", "0\n"])
def test_what_is_no_checkpoint(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(StorageError, match="no offset checkpoint"):
        checkpoints.read_offsets(path)


def test_the_mark_of_a_clean_stop_is_true_once(tmp_path: Path) -> None:
    assert not checkpoints.take_clean_shutdown(tmp_path)
    assert checkpoints.clean_shutdown_broker_epoch(tmp_path) is None
    checkpoints.write_clean_shutdown(tmp_path, 12)
    assert (tmp_path / ".kafka_cleanshutdown").read_text() == '{"version":0,"brokerEpoch":12}'
    assert checkpoints.clean_shutdown_broker_epoch(tmp_path) == 12
    assert checkpoints.take_clean_shutdown(tmp_path)
    assert not checkpoints.take_clean_shutdown(tmp_path)


def test_an_old_empty_mark_counts(tmp_path: Path) -> None:
    (tmp_path / checkpoints.CLEAN_SHUTDOWN).write_text("")
    assert checkpoints.clean_shutdown_broker_epoch(tmp_path) == -1
    assert checkpoints.take_clean_shutdown(tmp_path)


def test_properties(tmp_path: Path) -> None:
    path = tmp_path / checkpoints.META_PROPERTIES
    assert checkpoints.read_properties(path) == {}
    checkpoints.write_properties(path, {"node.id": "1", "cluster.id": "a=b"})
    assert checkpoints.read_properties(path) == {"node.id": "1", "cluster.id": "a=b"}
    path.write_text("nonsense\n")
    with pytest.raises(StorageError):
        checkpoints.read_properties(path)


@pytest.mark.parametrize("text", ["version: 1\ntopic_id: AAAA", "version: 0\ntopic_id: AAAA", "version: 0\n"])
def test_what_is_no_partition_metadata(tmp_path: Path, text: str) -> None:
    (tmp_path / "partition.metadata").write_text(text)
    with pytest.raises(StorageError):
        checkpoints.read_partition_metadata(tmp_path)


def test_directory_names() -> None:
    assert names.parse_partition_directory("a.b-c-12") == TopicPartition("a.b-c", 12)
    assert names.parse_partition_directory("meta.properties") is None
    deleted = names.deleted_directory(TopicPartition("t" * 249, 3), "0" * 32)
    assert len(deleted) == 255
    assert names.is_deleted_directory(deleted)
    assert names.parse_partition_directory(deleted) is None
    assert not names.is_deleted_directory("t-3")


def test_segment_names() -> None:
    assert names.parse_segment_file("00000000000000000012.log") == (12, ".log", "")
    assert names.parse_segment_file("00000000000000000012.timeindex.swap") == (12, ".timeindex", ".swap")
    for name in ("12.log", "00000000000000000012.log.deleted", "00000000000000000012.txt", "x"):
        assert names.parse_segment_file(name) is None
