"""A follower of very many partitions names them over several requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import until
from tests.unit.broker.test_replication import Cluster, append, cluster
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode
from tierlog.metadata.control.topics import NewTopic
from tierlog.replication import fetch_schedule

COUNT = 12


async def many(brokers: Cluster) -> list[Partition]:
    """The replicas of ``COUNT`` partitions at their leader, which is broker 1 for all of them, all in sync."""
    leader, follower = brokers.brokers[1], brokers.brokers[2]
    await until(lambda: all(len(b.feed.image.active_brokers()) == 2 for b in brokers.all()))
    assignments = [(n, (1, 2)) for n in range(COUNT)]
    (result,) = await brokers.controller.services.admin.create_topics([NewTopic("t", -1, -1, assignments)])
    assert result.error is ErrorCode.NONE, result.message
    await until(lambda: len(leader.replicas) == COUNT and all(p.leader for p in leader.replicas))
    await until(lambda: len(follower.replicas) == COUNT and all(p.follower for p in follower.replicas))
    return list(leader.replicas)


async def test_a_session_is_built_up_over_several_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_schedule, "MAX_NAMED", 5)
    async with cluster(tmp_path, 2) as brokers:
        led = await many(brokers)
        for partition in led:
            append(partition)
        await until(lambda: all(p.high_watermark == 1 for p in led))
        follower = brokers.brokers[2].replicas
        await until(lambda: all(p.high_watermark == 1 for p in follower))
