"""A broker whose metadata lives in etcd."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.etcd import Admin, Member, binary, etcd
from tests.servers.grpc_proxy import Cut, GrpcProxy
from tests.servers.ports import free_ports
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.store import EtcdStore

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


async def test_a_broker_comes_back_from_whatever_befalls_its_lease(member: Member, tmp_path: Path) -> None:
    """By itself, and with what it had acknowledged."""
    proxy = GrpcProxy(member.client_port)
    await proxy.start()
    session = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "300"}
    broker = BrokerProcess(tmp_path / "broker", {"metadata.store": f"etcd://{proxy.address}", **session})
    store = await EtcdStore.open(EtcdSettings((member.address,)))

    async def lease() -> int:
        found = await store.get(keys.registration(1))
        return 0 if found is None else found.lease

    async def revoke() -> None:
        await store.revoke(await lease())

    async def lost_answer() -> None:
        proxy.cut_next(b'"incarnation"', Cut.AFTER)
        await revoke()

    async def lost_question() -> None:
        proxy.cut_next(b'"incarnation"', Cut.BEFORE)
        await revoke()

    async def lost_wish() -> None:
        proxy.cut_next(b'"want_fence":false', Cut.AFTER)
        await revoke()

    async def unreachable() -> None:
        proxy.refuse()
        async with asyncio.timeout(PATIENT_S):
            while await lease():
                await asyncio.sleep(0.05)
        await proxy.start()

    await asyncio.to_thread(broker.start)
    client = await asyncio.to_thread(RawClient, broker.port)
    try:
        await asyncio.to_thread(client.create_topic, "kept")
        values = []
        for trouble in (revoke, lost_answer, lost_question, lost_wish, unreachable):
            before = await store.get(keys.registration(1))
            assert before is not None
            await trouble()
            async with asyncio.timeout(PATIENT_S):
                while not await is_back(store, before.create_revision):
                    assert broker.process is not None and broker.process.poll() is None, trouble
                    await asyncio.sleep(0.05)
            values.append(trouble.__name__.encode())
            await asyncio.to_thread(produce_until_taken, client, values[-1])
        assert await asyncio.to_thread(client.values, "kept") == values
        assert proxy.cuts == 3
        # A stop while nothing of the store can be reached ends in time.
        proxy.refuse()
        assert await asyncio.to_thread(broker.stop) == 0
    finally:
        client.__exit__(None, None, None)
        broker.kill()
        await store.close()
        await proxy.close()


async def is_back(store: EtcdStore, than: int) -> bool:
    """Registered anew, and unfenced."""
    registration, state = await store.get(keys.registration(1)), await store.get(keys.broker_state(1))
    if registration is None or state is None or registration.create_revision == than:
        return False
    said = records.decode_broker_state(state.value)
    return said.broker_epoch == registration.create_revision and not said.fenced


def produce_until_taken(client: RawClient, value: bytes) -> None:
    """The election follows the unfencing."""
    deadline_s = time.monotonic() + 30
    while (error := client.produce("kept", one_batch(value)).error_code) != ErrorCode.NONE:
        assert time.monotonic() < deadline_s, error
        time.sleep(0.05)


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
