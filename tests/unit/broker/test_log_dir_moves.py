"""Copies of a log's directory while it grows, and what a crash in the middle of a move leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierlog.broker.dir_copy import DirCopy, Part
from tierlog.broker.log_dirs import FUTURE, LogDir
from tierlog.broker.offline_replicas import in_dir
from tierlog.broker.opening import found_directories
from tierlog.errors import StorageError
from tierlog.metadata.records import PartitionState

FIRST, SECOND = f"{0:020d}", f"{10:020d}"


def test_a_copy_follows_a_log_that_grows(tmp_path: Path) -> None:
    source, target = tmp_path / "t-0", tmp_path / f"t-0{FUTURE}"
    source.mkdir()
    (source / f"{FIRST}.log").write_bytes(b"a" * 10)
    (source / f"{FIRST}.index").write_bytes(b"i")
    (source / f"{SECOND}.log").write_bytes(b"b" * 4 + bytes(100))  # preallocated
    (source / f"{SECOND}.index").write_bytes(bytes(100))
    copy = DirCopy(source, target)
    target.mkdir()
    (target / "left").touch()
    copy.begin()
    copy.copy_parts([Part(FIRST, 10, True), Part(SECOND, 4, False)])
    assert copy.copied_bytes == 14
    assert {path.name for path in target.iterdir()} == {f"{FIRST}.log", f"{FIRST}.index", f"{SECOND}.log"}

    (source / f"{SECOND}.log").write_bytes(b"b" * 9)
    (source / f"{SECOND}.index").write_bytes(b"j")
    (source / "leader-epoch-checkpoint").write_text("0\n")
    copy.copy_parts([Part(FIRST, 10, True), Part(SECOND, 6, False)])
    copy.copy_rest()
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
    assert copy.copied_bytes == 19


def test_a_copy_that_is_given_up_says_so(tmp_path: Path) -> None:
    (tmp_path / f"{FIRST}.log").write_bytes(b"a")
    copy = DirCopy(tmp_path, tmp_path / "new")
    copy.begin()
    copy.is_given_up = True
    with pytest.raises(StorageError, match="given up"):
        copy.copy_parts([Part(FIRST, 1, False)])


@pytest.mark.parametrize(("lengths", "wins"), [((3, 5), "b"), ((5, 3), "a"), ((4, 4), "a")])
def test_of_two_directories_the_longer_one_counts(
    tmp_path: Path, lengths: tuple[int, int], wins: str
) -> None:
    dirs = [LogDir(tmp_path / name, 0) for name in "ab"]
    for log_dir, length in zip(dirs, lengths, strict=True):
        directory = log_dir.path / "t-0"
        directory.mkdir()
        (directory / f"{FIRST}.log").write_bytes(bytes(length))
    (tmp_path / "a" / f"t-1{FUTURE}").mkdir()
    ((name, (log_dir, directory)),) = found_directories(dirs).items()
    assert (name, log_dir.path.name, directory) == ("t-0", wins, tmp_path / wins / "t-0")
    other = "b" if wins == "a" else "a"
    assert [path.name for path in (tmp_path / other).iterdir() if path.is_dir()] == ["t-0-stray"]
    assert not (tmp_path / "a" / f"t-1{FUTURE}").exists()
    for log_dir in dirs:
        log_dir.close()


def test_a_record_says_where_one_replica_lies() -> None:
    state = PartitionState(leader=1, leader_epoch=0, isr=(1, 2), replicas=(1, 2), min_isr=1)
    once = in_dir(state, 2, "x")
    assert once.dirs == ("", "x")
    assert in_dir(in_dir(once, 1, "y"), 2, "z").dirs == ("y", "z")
