"""The metadata store of the cluster: three members of etcd, each on a host of its own, or a SQLite file."""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random

from tests.chaos.cluster.network import Host, Network
from tests.servers.etcd import Member, binary
from tests.servers.processes import free_ports

MEMBERS = 3


class Sqlite:
    """A file has no members to lose."""

    hosts: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        self.address = f"sqlite:{directory / 'metadata.db'}"

    def close(self) -> None:
        """Nothing runs."""


class Etcd:
    """The members; one at a time may be killed or paused."""

    def __init__(self, directory: Path, network: Network) -> None:
        program = binary()
        assert program is not None, "this machine has no etcd server"
        hosts = [network.host(f"store-{n}") for n in range(1, MEMBERS + 1)]
        self.hosts = tuple(host.name for host in hosts)
        ports = [free_ports(3) for _ in hosts]
        peers = ",".join(
            f"{host.name}=http://{host.address}:{peer}"
            for host, (_, peer, _) in zip(hosts, ports, strict=True)
        )
        self.members = [
            _member(program, directory, host, *each, peers) for host, each in zip(hosts, ports, strict=True)
        ]
        addresses = (f"{host.address}:{port}" for host, (port, _, _) in zip(hosts, ports, strict=True))
        self.address = f"etcd://{','.join(addresses)}"
        for member in self.members:
            member.start()
        for member in self.members:
            member.await_health()

    def kill(self, rng: Random) -> Member:
        member = rng.choice(self.members)
        member.end(signal.SIGKILL)
        return member

    def close(self) -> None:
        for member in self.members:
            member.end(signal.SIGKILL)


def _member(
    program: str, directory: Path, host: Host, client_port: int, peer_port: int, health_port: int, peers: str
) -> Member:
    client, peer = f"http://{host.address}:{client_port}", f"http://{host.address}:{peer_port}"
    health = f"http://{host.address}:{health_port}"
    command = [*host.prefix, program, f"--name={host.name}", f"--data-dir={directory / host.name}"]
    command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
    command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
    command += [f"--initial-cluster={peers}", f"--listen-metrics-urls={health}"]
    command += ["--heartbeat-interval=100", "--election-timeout=1000", "--log-level=warn"]
    return Member(host.name, command, client_port, f"{health}/health", directory / f"{host.name}.log")


Store = Sqlite | Etcd
