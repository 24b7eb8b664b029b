"""Nobody removes segments that somebody holds; what is moved is copied in pieces, without what only waits to go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import append, create, running, until
from tests.unit.broker.test_log_dirs import two
from tests.unit.log.logs import NOW_MS, fill, open_log
from tests.unit.offload.brokers import World, produce
from tierlog.broker.disk import dir_copy
from tierlog.broker.disk.dir_copy import DirCopy
from tierlog.errors import ErrorCode
from tierlog.log.removals import COMPACTION, MOVE, Removals


def test_one_holder_at_a_time() -> None:
    removals = Removals()
    removals.check()
    with removals.hold(MOVE):
        assert removals.are_held
        with pytest.raises(AssertionError, match="holds them"):
            removals.check()
        with pytest.raises(AssertionError, match="that a move"), removals.hold(COMPACTION):
            raise ValueError
        removals.check(MOVE)
    assert not removals.are_held


def test_a_held_log_refuses_to_lose_segments(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    log.roll(NOW_MS)
    with log.removals.hold(MOVE):
        for remove in (
            lambda: log.delete_segments_below(3, NOW_MS),
            lambda: log.truncate_to(1, NOW_MS),
            lambda: log.truncate_fully_and_start_at(9, NOW_MS),
            lambda: log.replace_segments([], NOW_MS),
        ):
            with pytest.raises(AssertionError):
                remove()
    assert (log.log_end_offset, log.segment_count) == (3, 2)
    log.truncate_to(1, NOW_MS)


async def test_a_tier_commit_during_a_move_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path, monkeypatch).broker() as one:
        partition = await one.create()
        with partition.log.removals.hold(MOVE):
            produce(partition, 30)
            tier = await one.tiered(partition)
            assert tier.end_offset > 0
            await one.broker.housekeeping.retain()
            assert one.broker.housekeeping.retain_partition(partition) == 0
            assert partition.log.segments.first.base_offset == 0
        await one.broker.housekeeping.retain()
        assert partition.log.segments.first.base_offset > 0


async def test_a_topic_that_is_deleted_goes_on_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the move waits for as long as the topic is there.
    monkeypatch.setattr(
        "tierlog.broker.upkeep.dir_moves._is_quiet",
        lambda partition, image: image.partition(partition.topic_id, 0) is None,
    )
    async with running(tmp_path, **two(tmp_path)) as broker:
        (partition,) = await create(broker)
        append(partition)
        await broker.dir_moves.move([(partition, broker.log_dirs[1])])
        await until(lambda: partition.log.removals.are_held)
        (deleted,) = await broker.services.admin.delete_topics([partition.topic_id])
        assert deleted.error is ErrorCode.NONE
        await until(lambda: broker.dir_moves._task is None or broker.dir_moves._task.is_over)
        assert "cannot move" not in capsys.readouterr().out
        assert [p for log_dir in broker.log_dirs for p in log_dir.path.glob("*-future")] == []


def test_a_copy_takes_pieces_and_leaves_what_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "t-0", tmp_path / "copy"
    source.mkdir()
    names = (f"{0:020d}.log", f"{0:020d}.txnindex", f"{9:020d}.snapshot", f"{5:020d}.corrupt")
    for name in names:
        (source / name).write_bytes(name.encode() * 100)
        (source / f"{name}.deleted").write_bytes(b"d")
    (source / "leader-epoch-checkpoint.tmp").touch()
    monkeypatch.setattr(dir_copy, "PIECE_BYTES", 64)
    monkeypatch.setattr(Path, "read_bytes", None)
    copy = DirCopy(source, target)
    copy.begin()
    sizes: list[int] = []
    real = copy.filesystem.write_at

    def write_at(fd: int, data: bytes, position: int) -> None:
        sizes.append(len(data))
        real(fd, data, position)

    monkeypatch.setattr(copy.filesystem, "write_at", write_at)
    copy.copy_rest()
    monkeypatch.undo()
    assert max(sizes) == 64
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        name: name.encode() * 100 for name in names
    }
