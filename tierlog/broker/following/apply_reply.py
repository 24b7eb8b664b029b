"""Applies the leader's answer to a follower's log: carries out the effects that the state machine decides, in one step.

Rules: batches are appended as they are; a batch that could not be appended is fetched again later. After the log is cut,
nothing is fetched before epoch lineage, segment and recovery point are synced (``Partition.pending_cut``): once the leader
has counted this replica's shorter log, the longer one must never come back. The replica's log start follows the leader's,
but never above the high watermark.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from tierlog.broker.replicas.partition import Offline, Partition
from tierlog.broker.work.freeing import free_producers
from tierlog.errors import DiskFull, ErrorCode, StorageError
from tierlog.log.producers.cuts import Replay, replay_for_cut
from tierlog.replication import follower as effects
from tierlog.replication.fetches import DivergingEpoch, FetchReply, FollowerFetch
from tierlog.replication.truncation import truncation_target

if TYPE_CHECKING:
    from tierlog.log.log import Log
    from tierlog.replication.follower import Follower
    from tierlog.wire.messages.fetch import PartitionData

logger = structlog.get_logger()


class Diverged(Exception):
    """Leader and follower differ below the high watermark; only an operator can tell which one is right."""


def described(data: PartitionData) -> FetchReply:
    """The answer for one partition, without its records."""
    error = ErrorCode(data.error_code)
    diverging = data.diverging_epoch
    is_out_of_range = error is ErrorCode.OFFSET_OUT_OF_RANGE
    return FetchReply(
        error,
        data.high_watermark,
        data.log_start_offset,
        # Beside OFFSET_OUT_OF_RANGE the leader sends its log end in this field (see leading.follower_fetch).
        data.last_stable_offset if is_out_of_range else -1,
        DivergingEpoch(diverging.epoch, diverging.end_offset)
        if diverging.epoch >= 0 or diverging.end_offset >= 0
        else None,
        bool(data.records),
    )


def take_answer(
    partition: Partition, fetch: FollowerFetch, data: PartitionData, now_ms: int, wall_clock_ms: int
) -> effects.Effects:
    """Carries out the effects that can be done at once; returns those that take longer. ``now_ms``: the monotonic clock."""
    follower, log = partition.follower, partition.log
    if follower is None or partition.offline is not None:
        return effects.NOTHING
    reply = described(data)
    if log.removals.are_held and (reply.error or reply.diverging is not None):
        follower.on_failure(fetch, now_ms)  # a move or compaction holds the segments that may have to be cut
        return effects.NOTHING
    target = _cut_target(reply, follower, log)
    if target is not None and not is_cut_prepared(partition, target, wall_clock_ms):
        follower.on_failure(fetch, now_ms)  # the leader is asked again once the cut is prepared
        return effects.NOTHING
    longer: list[effects.Effect] = []
    watermark_before, producers_before = follower.high_watermark, log.producers
    try:
        for effect in follower.on_reply(fetch, reply, log, now_ms):
            match effect:
                case effects.Append():
                    _append(partition, follower, data, now_ms, wall_clock_ms)
                case effects.Truncate(offset):
                    logger.info(
                        "truncating the log to the leader's",
                        partition=str(partition.topic_partition),
                        leader_epoch=follower.leader_epoch,
                        log_end=log.log_end_offset,
                        truncate_to=offset,
                    )
                    log.truncate_to(offset, wall_clock_ms)
                    partition.sync_cut()
                case effects.StartAt(offset):
                    log.truncate_fully_and_start_at(offset, wall_clock_ms)
                    partition.sync_cut()
                case effects.StopReplica(reason):
                    partition.take_offline(Offline.DIVERGED, Diverged(reason))
                    return effects.NOTHING
                case _:
                    longer.append(effect)
        follower.check(log)
        _follow_log_start(partition, follower)
        if follower.high_watermark != watermark_before:
            partition.on_watermark_learnt()
    except Exception as error:
        failed(partition, follower, error, now_ms)
    if log.producers is not producers_before:
        free_producers(producers_before)
    return tuple(longer)


def failed(partition: Partition, follower: Follower, error: Exception, now_ms: int) -> None:
    """An answer could not be applied: what that costs."""
    if isinstance(error, DiskFull):
        partition.log_dir.on_disk_full()
        follower.on_failure(None, now_ms)
    elif isinstance(error, StorageError):
        partition.storage_failed(error)
    else:  # a bug stops this partition, not all that are copied from that leader
        partition.take_offline(Offline.BUG, error)


def _cut_target(reply: FetchReply, follower: Follower, log: Log) -> int | None:
    """The offset at which this answer would cut the log (exclusive end of what stays); None if it cuts nothing."""
    if reply.diverging is not None:
        return truncation_target(log, reply.diverging, follower.high_watermark)
    is_out_of_range = reply.error is ErrorCode.OFFSET_OUT_OF_RANGE
    return reply.log_end_offset if is_out_of_range and reply.log_end_offset >= 0 else None


def is_cut_prepared(partition: Partition, target: int, now_ms: int) -> bool:
    """False if the producer state at the cut must first be rebuilt from the log; a thread then does so."""
    log = partition.log
    if target >= log.log_end_offset:
        return True
    replay = replay_for_cut(log, target, now_ms)
    if replay is None:
        return True
    if replay is not log.replay:
        log.replay = replay
        reading = asyncio.get_running_loop().run_in_executor(None, replay.run)
        reading.add_done_callback(lambda done: _on_replayed(partition, log, replay, done))
    return False


def _on_replayed(partition: Partition, log: Log, replay: Replay, done: asyncio.Future[None]) -> None:
    if replay is log.replay and (done.cancelled() or done.exception() is not None):
        log.replay = None  # the next answer starts the rebuild anew
    if done.cancelled() or (error := done.exception()) is None or partition.log is not log:
        return
    if isinstance(error, StorageError):
        partition.storage_failed(error)
    else:
        partition.take_offline(Offline.BUG, error)


def _append(
    partition: Partition, follower: Follower, data: PartitionData, now_ms: int, wall_clock_ms: int
) -> None:
    records, log = data.records, partition.log
    assert isinstance(records, memoryview)
    result = log.append_as_follower(records, wall_clock_ms)
    if result.error:
        logger.error(
            "cannot append what the leader sent",
            partition=str(partition.topic_partition),
            error=result.error.name,
            why=result.error_message,
        )
        follower.on_failure(None, now_ms)
        return
    partition.on_copied(len(records))
    follower.on_appended(log.log_end_offset)
    if partition.flush_acks or log.log_end_offset - log.recovery_point >= partition.config.flush_messages:
        partition.flusher.request(partition)
    if log.snapshots.pending:
        partition.flusher.request(partition)
    if log.bytes_since_writeback >= partition.writeback_bytes:
        partition.owner.on_writeback_due(partition)


def _follow_log_start(partition: Partition, follower: Follower) -> None:
    start_offset = min(follower.log_start_offset, follower.high_watermark)
    if start_offset > partition.log.log_start_offset:
        partition.log.advance_log_start_offset(start_offset)
