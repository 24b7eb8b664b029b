"""Three broker processes on one metadata store: SQLite, and etcd where this machine has it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from tests.e2e.test_cli import tierlog
from tests.patience import PATIENT_S, slowness
from tests.servers.etcd import Admin, Member, binary, etcd
from tests.servers.parents import die_with_parent
from tests.servers.ports import ports_in_a_row
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.several import SESSION_MS, Several, wait_until
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse

# The bar: the lease, and three seconds.
FAILOVER_S = SESSION_MS / 1000 + 3.0


@pytest.fixture(scope="module", params=["sqlite", "etcd"])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    directory = tmp_path_factory.mktemp("several")
    if request.param == "sqlite":
        with Several(directory) as running:
            yield running
        return
    if binary() is None:
        pytest.skip("this machine has no etcd server")
    with (
        etcd(directory) as (member,),
        Several(directory, metadata_store=f"etcd://{member.address}") as running,
    ):
        yield running


def test_each_broker_knows_all_and_topics_are_spread(several: Several) -> None:
    for node_id in several.brokers:
        answer = several.metadata(node_id)
        assert {b.node_id: b.port for b in answer.brokers} == {i: b.port for i, b in several.brokers.items()}
        assert answer.controller_id in several.brokers
    controller = several.metadata(1).controller_id
    other = next(i for i in several.brokers if i != controller)
    # Not by the controller itself: the request is carried there.
    with several.client(other) as client:
        create_raw(client, "spread", 6)
    several.await_topic("spread", 6)
    for node_id in several.brokers:
        assert sorted(several.leaders(node_id, "spread").values()) == [1, 1, 2, 2, 3, 3]
    for partition, leader in several.leaders(1, "spread").items():
        wrong = next(i for i in several.brokers if i != leader)
        with several.client(wrong) as client:
            refused = client.produce("spread", one_batch(b"x"), partition)
            assert refused.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        produce(several, leader, "spread", partition)


def create_raw(client: RawClient, topic: str, partitions: int) -> None:
    asked = CreatableTopic(name=topic, num_partitions=partitions, replication_factor=1)
    request = CreateTopicsRequest(topics=[asked], timeout_ms=10_000)
    assert client.call(request, CreateTopicsResponse).topics[0].error_code == ErrorCode.NONE


def produce(several: Several, leader: int, topic: str, partition: int) -> None:
    """One record; the leader may have seen the topic a moment ago."""
    batch = one_batch(b"kept")
    with several.client(leader) as client:
        wait_until(
            lambda: client.produce(topic, batch, partition).error_code == ErrorCode.NONE, "no produce", 1.0
        )


def create(several: Several, at: int, topic: str, partitions: int = 1) -> None:
    admin = KafkaAdminClient(bootstrap_servers=several[at].bootstrap)
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        admin.close()
    several.await_topic(topic, partitions)


def test_a_client_that_knows_one_broker_uses_all(several: Several) -> None:
    """Automatic creation, groups and offsets: whichever broker is asked."""
    controller = several.metadata(1).controller_id
    other = next(i for i in several.brokers if i != controller)
    at = several[other].bootstrap
    producer = KafkaProducer(bootstrap_servers=at)
    for n in range(20):
        producer.send("made-by-itself", str(n).encode()).get(PATIENT_S)
    producer.close()
    for group in ("a", "b", "c", "d"):
        consumer = KafkaConsumer(
            "made-by-itself",
            bootstrap_servers=at,
            group_id=group,
            auto_offset_reset="earliest",
            consumer_timeout_ms=int(PATIENT_S * 1000),
        )
        got = [next(consumer).value for _ in range(20)]
        assert sorted(got, key=int) == [str(n).encode() for n in range(20)]
        consumer.close()


def test_the_controller_dies_and_another_goes_on(several: Several) -> None:
    controller = several.metadata(1).controller_id
    left = [i for i in several.brokers if i != controller]
    create(several, controller, "before", 3)
    several[controller].kill()
    took_s = wait_until(
        lambda: all(several.metadata(i).controller_id in left for i in left), "no new controller", FAILOVER_S
    )
    create(several, left[0], "after", 4)
    for node_id in left:
        assert {b.node_id for b in several.metadata(node_id).brokers} == set(left)
        assert set(several.leaders(node_id, "after").values()) == set(left)
        # One replica only: nobody else has the data.
        assert sorted(several.leaders(node_id, "before").values()) == sorted([-1, *left])
    assert took_s < FAILOVER_S * slowness()
    several[controller].start()
    wait_until(lambda: -1 not in several.leaders(left[0], "before").values(), "it does not lead again")


def test_a_killed_broker_comes_back_at_once_and_leads_again(several: Several) -> None:
    """Also where its lease lives on: what is registered is this very directory, and nobody else can use that."""
    create(several, 1, "comes-back", 3)
    leaders = several.leaders(1, "comes-back")
    (partition,) = [n for n, leader in leaders.items() if leader == 3]
    produce(several, 3, "comes-back", partition)
    epoch = epoch_of(several, "comes-back", partition)
    several[3].kill()
    several[3].start()
    wait_until(lambda: several.leaders(1, "comes-back")[partition] == 3, "it does not lead again")
    assert epoch_of(several, "comes-back", partition) > epoch
    with several.client(3) as client:
        assert client.values("comes-back", partition=partition) == [b"kept"]
    assert "waiting up to" not in several[3].log.read_text()


def epoch_of(several: Several, topic: str, partition: int) -> int:
    (found,) = several.metadata(1, topic).topics
    return next(row.leader_epoch for row in found.partitions if row.partition_index == partition)


def test_a_taken_id_is_refused_in_one_line(several: Several, tmp_path: Path) -> None:
    second = BrokerProcess(tmp_path / "second", dict(several[2].overrides))
    second.launch()
    assert second.process is not None
    assert second.process.wait(PATIENT_S) == 1
    second.kill()
    last = second.log.read_text().strip().splitlines()[-1]
    assert last.startswith(
        f"tierlog: broker id 2 is taken by a running broker at 127.0.0.1:{several[2].port}"
    )
    assert several[2].is_ready()


def test_cluster_status_and_rolling_check(several: Several) -> None:
    create(several, 1, "checked", 3)
    at = several[1].bootstrap
    # A broker that was killed a moment ago catches up first.
    wait_until(
        lambda: tierlog("cluster", "status", "-o", "json", bootstrap=at).json["under_replicated"] == 0,
        "replicas do not catch up",
    )
    answer = tierlog("cluster", "status", "-o", "json", bootstrap=at).json
    assert [(row["id"], row["state"]) for row in answer["brokers"]] == [(i, "active") for i in (1, 2, 3)]
    assert answer["controller"] == several.metadata(1).controller_id
    assert answer["without_leader"] == answer["under_replicated"] == 0
    assert sum(row["leaders"] for row in answer["brokers"]) == answer["partitions"]
    assert answer["metadata_store"] == several[1].overrides["metadata.store"]
    table = tierlog("cluster", "status", bootstrap=at)
    assert (table.code, table.err) == (0, "")
    assert table.out.count("active") == 3

    check = tierlog("cluster", "rolling-check", "-o", "json", bootstrap=at)
    assert (check.code, check.json["safe"], check.json["problems"]) == (1, False, [])
    assert all(row["without_leader"] > 0 for row in check.json["brokers"])  # one replica each
    unknown = tierlog("cluster", "rolling-check", "--broker", "9", bootstrap=at)
    assert (unknown.code, unknown.err) == (1, "tierlog: there is no broker 9; there are 1, 2, 3\n")


def test_with_replicas_to_spare_brokers_may_be_restarted_one_by_one(tmp_path: Path) -> None:
    with Several(tmp_path) as several:
        at = ",".join(broker.bootstrap for broker in several.brokers.values())
        options = ("-p", "3", "-r", "3", "-c", "min.insync.replicas=2")
        assert tierlog("topic", "create", "spare", *options, bootstrap=at).code == 0
        for node_id in several.brokers:
            wait_until(
                lambda: tierlog("cluster", "rolling-check", bootstrap=at).code == 0, "no restart is allowed"
            )
            assert several[node_id].stop() == 0
            check = tierlog("cluster", "rolling-check", "-o", "json", bootstrap=at)
            assert (check.code, check.json["safe"]) == (1, False)
            assert check.json["problems"][0] == f"broker {node_id} is gone"
            several[node_id].start()


async def end_leases(member: Member) -> None:
    """What the time of the leases would do."""
    async with Admin(member) as admin:
        await admin.end_leases()


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    if binary() is None:
        pytest.skip("this machine has no etcd server")
    with etcd(tmp_path) as (single,):
        yield single


def test_after_a_reboot_within_its_lease_a_broker_waits_for_the_end_of_it(
    member: Member, tmp_path: Path
) -> None:
    """Another boot, as far as the broker can tell: its directories may have been used elsewhere since."""
    overrides = {
        "metadata.store": f"etcd://{member.address}",
        "broker.session.timeout.ms": "120000",
        "broker.heartbeat.interval.ms": "500",
    }
    broker = BrokerProcess(tmp_path / "broker", {**overrides, "tierlog.host": "before"})
    try:
        broker.start()
        broker.kill()
        broker.overrides["tierlog.host"] = "after"
        broker.launch()
        wait_until(lambda: "still lives: waiting for its end" in broker.log.read_text(), "it does not wait")
        assert not broker.is_ready()
        asyncio.run(end_leases(member))
        broker.await_ready()
        assert broker.stop() == 0
    finally:
        broker.kill()


def test_up_runs_several_brokers_and_stops_them_all(tmp_path: Path) -> None:
    port, http_port = ports_in_a_row(3), ports_in_a_row(3)
    command = ["up", "--brokers", "3", "--data", str(tmp_path / "data")]
    command += ["--port", str(port), "--http-port", str(http_port)]
    log = tmp_path / "log"
    process = launch(command, log)
    try:
        brokers = [f"127.0.0.1:{port + n}" for n in range(3)]

        def started() -> int:
            return log.read_text().count('"event": "broker started"')

        def all_are_there() -> bool:
            assert process.poll() is None, log.read_text()
            answer = tierlog("cluster", "status", "-o", "json", bootstrap=brokers[2])
            # A broker is in the cluster a little before it says that it has started.
            return answer.code == 0 and len(answer.json["brokers"]) == 3 and started() == 3

        wait_until(all_are_there, "three brokers are not there")
        killed = pid_of_broker(process, 2)
        os.kill(killed, signal.SIGKILL)
        wait_until(
            lambda: (
                "tierlog: broker 2 was killed by SIGKILL; 2 of 3 go on; it is started again in 1 s"
                in log.read_text()
            ),
            "its end is not said aloud",
        )
        created = tierlog("topic", "create", "still", bootstrap=brokers[0])
        assert created.code == 0, created.err
        wait_until(lambda: started() == 4, "it is not started again")
        assert pid_of_broker(process, 2) != killed
        process.terminate()
        assert process.wait(PATIENT_S) == 0
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert text.count('"event": "broker stopped"') == 3
    assert "[broker 1] " in text
    assert {path.name for path in (tmp_path / "data").iterdir()} >= {
        "logs",
        "logs-2",
        "logs-3",
        "metadata.db",
    }


def test_processes_of_a_server_properties_end_with_their_supervisor(tmp_path: Path) -> None:
    port = ports_in_a_row(2)
    config = tmp_path / "server.properties"
    config.write_text(
        f"node.id=7\nlisteners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={tmp_path / 'logs'}\n"
        f"metadata.store=sqlite:{tmp_path / 'metadata.db'}\n"
    )
    log = tmp_path / "log"
    process = launch(["broker", "--config", str(config), "--processes", "2"], log)
    try:
        wait_until(lambda: log.read_text().count('"event": "broker started"') == 2, "they are not there")
        first = pid_of_broker(process, 7)
        answer = tierlog("cluster", "status", "-o", "json", bootstrap=f"127.0.0.1:{port + 1}").json
        assert [(row["id"], row["port"]) for row in answer["brokers"]] == [(7, port), (8, port + 1)]
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not Path(f"/proc/{first}").exists(), "a broker outlives its supervisor")


def launch(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tierlog", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )


def pid_of_broker(supervisor: subprocess.Popen[bytes], node_id: int) -> int:
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
    for pid in children:
        if f"node.id={node_id}" in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            return int(pid)
    raise AssertionError(f"no process of broker {node_id} among {children}")
