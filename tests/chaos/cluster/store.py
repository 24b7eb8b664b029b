"""The metadata store of the cluster: three members of etcd, each on a host of its own, or a SQLite file."""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.chaos.cluster.network import Host, Network
from tests.servers.etcd import Member, binary
from tests.servers.ports import free_ports

MEMBERS = 3


class _Ports(NamedTuple):
    client: int
    peer: int
    health: int


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
        found = [_Ports(*free_ports(3)) for _ in hosts]
        placed = list(zip(hosts, found, strict=True))
        peers = ",".join(f"{host.name}=http://{host.address}:{ports.peer}" for host, ports in placed)
        self.members = [_member(program, directory, host, ports, peers) for host, ports in placed]
        self.address = f"etcd://{','.join(f'{host.address}:{ports.client}' for host, ports in placed)}"
        for member in self.members:
            member.start()
        for member in self.members:
            member.await_health()

    def kill(self, rng: Random) -> Member:
        member = rng.choice(self.members)
        member.end(signal.SIGKILL)
        return member

    def pause(self) -> None:
        for member in self.members:
            if member.process is not None:
                member.pause()

    def resume(self) -> None:
        for member in self.members:
            if member.process is not None:
                member.resume()

    def close(self) -> None:
        for member in self.members:
            member.end(signal.SIGKILL)


def _member(program: str, directory: Path, host: Host, ports: _Ports, peers: str) -> Member:
    client, peer = f"http://{host.address}:{ports.client}", f"http://{host.address}:{ports.peer}"
    health = f"http://{host.address}:{ports.health}"
    command = [*host.prefix, program, f"--name={host.name}", f"--data-dir={directory / host.name}"]
    command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
    command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
    command += [f"--initial-cluster={peers}", f"--listen-metrics-urls={health}"]
    command += ["--heartbeat-interval=100", "--election-timeout=1000", "--log-level=warn"]
    return Member(host.name, command, ports.client, f"{health}/health", directory / f"{host.name}.log")


Store = Sqlite | Etcd
