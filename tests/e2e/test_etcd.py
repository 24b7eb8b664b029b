"""A broker whose metadata lives in etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.etcd import Admin, Member, binary, etcd
from tests.servers.processes import free_ports
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess

pytestmark = pytest.mark.skipif(binary() is None, reason="this machine has no etcd server")


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    with etcd(tmp_path) as (single,):
        yield single


async def session_ends(member: Member) -> None:
    """The lease of a killed broker lives on until its time is over."""
    async with Admin(member) as admin, asyncio.timeout(PATIENT_S):
        while await admin.leases():
            await asyncio.sleep(0.05)


def test_topics_and_records_live_through_restarts_of_the_broker_and_of_etcd(
    member: Member, tmp_path: Path
) -> None:
    session = {"broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "300"}
    broker = BrokerProcess(tmp_path / "broker", {"metadata.store": f"etcd://{member.address}", **session})
    try:
        broker.start()
        with RawClient(broker.port) as client:
            client.create_topic("kept")
            client.produce("kept", one_batch(b"0"))
        assert broker.stop() == 0
        broker.start()
        with RawClient(broker.port) as client:
            client.produce("kept", one_batch(b"1"))
            member.end()
            client.produce("kept", one_batch(b"without etcd"))
            member.start()
            member.await_health()
            client.create_topic("after")
            client.produce("after", one_batch(b"2"))
        broker.kill()
        asyncio.run(session_ends(member))
        broker.start()
        with RawClient(broker.port) as client:
            assert client.values("kept") == [b"0", b"1", b"without etcd"]
            assert client.values("after") == [b"2"]
        assert broker.stop() == 0
    finally:
        broker.kill()


def test_what_the_user_can_mend_ends_the_start_with_one_line(member: Member, tmp_path: Path) -> None:
    overrides = {
        "metadata.store": f"etcd://127.0.0.1:{free_ports(1)[0]},{member.address}",
        "tierlog.etcd.ca.file": str(tmp_path / "absent.pem"),
    }
    broker = BrokerProcess(tmp_path / "broker", overrides)
    broker.launch()
    assert broker.process is not None
    assert broker.process.wait(PATIENT_S) != 0
    broker.kill()
    last = broker.log.read_text().strip().splitlines()[-1]
    assert "absent.pem: No such file or directory" in last
