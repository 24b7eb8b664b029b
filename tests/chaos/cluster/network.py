"""Where brokers and store members live: hosts of their own on a bridge, or all of them on the loopback.

The namespaces are made inside a network and mount namespace that the program itself runs in (``enter``), so that nothing of
it is seen outside or left behind. A cut is one-way: the sender is given a wrong hardware address for the receiver's, which
loses its packets in silence, as a broken wire does; both ends go on believing in their connections.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

INSIDE = "TIERLOG_CHAOS_NAMESPACE"
CLIENT = "client"
_NOWHERE = "02:00:00:00:00:fe"
_CLIENT_HARDWARE = "02:00:00:00:00:ff"
_SUBNET = "10.77.0"


def run(*command: str) -> str:
    """Raises RuntimeError with what the program said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def namespaces_work() -> bool:
    """Whether this machine lets us have networks and mounts of our own."""
    probe = "ip link add probe0 type bridge && mount -t tmpfs tmpfs /mnt"
    command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", probe]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def enter() -> None:
    """Starts this program anew inside namespaces of its own, unless it is there."""
    if INSIDE in os.environ:
        return
    command = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, "-m"]
    os.environ[INSIDE] = "1"
    os.execvp("unshare", [*command, "tests.chaos.cluster", *sys.argv[1:]])


@dataclass(frozen=True, slots=True)
class Host:
    """``prefix``: what a command is put behind to run there; the process keeps its id."""

    name: str
    address: str
    prefix: tuple[str, ...] = ()


class Loopback:
    """All hosts are one; nothing can be cut."""

    can_cut = False

    def host(self, name: str) -> Host:
        return Host(name, "127.0.0.1")

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        raise AssertionError("the loopback cannot be cut")

    def heal(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        raise AssertionError("the loopback cannot be cut")


class Bridge:
    """One namespace for each host, the clients in the program's own. Only inside ``enter``."""

    can_cut = True

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._hardware: dict[str, str] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "chaos", "address", _CLIENT_HARDWARE, "type", "bridge")
        run("ip", "address", "add", f"{_SUBNET}.254/24", "dev", "chaos")
        run("ip", "link", "set", "chaos", "up")
        self._hosts[CLIENT] = Host(CLIENT, f"{_SUBNET}.254")
        self._hardware[CLIENT] = _CLIENT_HARDWARE

    def host(self, name: str) -> Host:
        """Made on first use."""
        found = self._hosts.get(name)
        if found is not None:
            return found
        number = len(self._hosts)
        address, hardware = f"{_SUBNET}.{number}", f"02:00:00:00:00:{number:02x}"
        host = Host(name, address, ("nsenter", f"--net=/run/netns/{name}"))
        run("ip", "netns", "add", name)
        end = f"v{number}"
        peer = ["peer", "name", "eth0", "address", hardware, "netns", name]
        run("ip", "link", "add", end, "type", "veth", *peer)
        run("ip", "link", "set", end, "master", "chaos", "up")
        inside = ("ip", "-n", name)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        self._hosts[name], self._hardware[name] = host, hardware
        for other in list(self._hosts):
            if other != name:
                self._reach(name, other)
                self._reach(other, name)
        return host

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """What a source sends to a target is lost. Cuts add up: each is healed by itself."""
        for pair in _pairs(sources, targets):
            self._cuts[pair] = self._cuts.get(pair, 0) + 1
            self._reach(*pair)

    def heal(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        for pair in _pairs(sources, targets):
            self._cuts[pair] -= 1
            self._reach(*pair)

    def _reach(self, source: str, target: str) -> None:
        is_cut = self._cuts.get((source, target), 0) > 0
        hardware = _NOWHERE if is_cut else self._hardware[target]
        where = ("ip",) if source == CLIENT else ("ip", "-n", source)
        device = "chaos" if source == CLIENT else "eth0"
        address = self._hosts[target].address
        run(*where, "neigh", "replace", address, "lladdr", hardware, "dev", device, "nud", "permanent")


def _pairs(sources: Iterable[str], targets: Iterable[str]) -> list[tuple[str, str]]:
    targets = list(targets)
    return [(source, target) for source in sources for target in targets if source != target]


Network = Loopback | Bridge
