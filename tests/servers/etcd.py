"""Real etcd servers on loopback, with their data in a test's directory: single ones and clusters.

Two kinds of server program are looked for: the system's (Debian's package ``etcd-server``), and a newer one that
``tools/install_test_deps.sh`` builds where there is Go.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.patience import PATIENT_S
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports
from tierlog.metadata.stores.etcd.endpoints import Endpoint
from tierlog.metadata.stores.etcd.protobuf import blob, fields, message, number

ROOT = Path(__file__).resolve().parents[2]
NEWER = ROOT / ".cache" / "etcd" / "etcd"
KINDS = ("etcd", "etcd-newer")


def binary(kind: str = "etcd") -> str | None:
    """The server program, None when this machine has none of the kind."""
    if kind == "etcd-newer":
        return str(NEWER) if NEWER.exists() else None
    return shutil.which("etcd")


@dataclass(frozen=True, slots=True)
class ServerCertificates:
    """Files; clients must show a certificate of ``ca`` when ``asks_clients``."""

    ca: Path
    cert: Path
    key: Path
    asks_clients: bool = False


@dataclass
class Member:
    """One server process; may be stopped, killed, paused and started again."""

    name: str
    command: Sequence[str]
    client_port: int
    health_url: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    def start(self) -> None:
        assert self.process is None
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"ETCD_UNSUPPORTED_ARCH": os.uname().machine},
                preexec_fn=die_with_parent,
            )

    def await_health(self, timeout_s: float = PATIENT_S) -> None:
        """Returns when the member has a leader."""
        deadline = time.monotonic() + timeout_s
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(self.health_url, timeout=2).close()
                return
            except urllib.error.HTTPError as error:
                error.close()
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def end(self, signal_number: int = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal_number)
        if signal_number != signal.SIGKILL:
            self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def etcd(
    directory: Path,
    *,
    kind: str = "etcd",
    members: int = 1,
    certificates: ServerCertificates | None = None,
    election_ms: int = 200,
) -> Iterator[list[Member]]:
    """Runs a cluster until the block ends. A short election time makes failover and the least lease (1 s) short."""
    program = binary(kind)
    assert program is not None, f"there is no {kind}; ask binary() first"
    ports = free_ports(3 * members)
    peers = [f"m{n}=http://127.0.0.1:{ports[3 * n + 1]}" for n in range(members)]
    scheme = "http" if certificates is None else "https"
    found: list[Member] = []
    for n in range(members):
        client_port, peer_port, health_port = ports[3 * n : 3 * n + 3]
        client, peer = f"{scheme}://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        health = f"http://127.0.0.1:{health_port}"
        command = [program, f"--name=m{n}", f"--data-dir={directory / f'm{n}'}"]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster={','.join(peers)}", f"--listen-metrics-urls={health}"]
        command += [f"--heartbeat-interval={election_ms // 10}", f"--election-timeout={election_ms}"]
        if certificates is not None:
            command += [f"--cert-file={certificates.cert}", f"--key-file={certificates.key}"]
            if certificates.asks_clients:
                command += [f"--trusted-ca-file={certificates.ca}", "--client-cert-auth"]
        found.append(Member(f"m{n}", command, client_port, f"{health}/health", directory / f"m{n}.log"))
    try:
        for each in found:
            each.start()
        for each in found:
            each.await_health()
        yield found
    finally:
        for each in found:
            each.end(signal.SIGKILL)
        for n in range(members):
            shutil.rmtree(directory / f"m{n}", ignore_errors=True)


class Admin:
    """What tests ask of a member beside the store's own calls; ``async with``."""

    def __init__(self, member: Member) -> None:
        self._endpoint = Endpoint(member.address, None)

    async def __aenter__(self) -> Admin:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._endpoint.close()

    async def ask(self, method: str, request: bytes = b"") -> bytes:
        why = await self._endpoint.connect(10)
        assert why is None, why
        return await self._endpoint.call(f"/etcdserverpb.{method}", request, (), 10)

    async def compact(self, revision: int) -> None:
        await self.ask("KV/Compact", number(1, revision))

    async def leases(self) -> set[int]:
        found: set[int] = set()
        for field_number, _, chunk in fields(await self.ask("Lease/LeaseLeases")):
            if field_number == 2:
                found.update(lease for _, lease, _ in fields(chunk))
        return found

    async def end_leases(self) -> None:
        """All of them, at once."""
        for lease in await self.leases():
            await self.ask("Lease/LeaseRevoke", number(1, lease))

    async def leader(self) -> int:
        """The leader's member id, and of the member itself when both are equal."""
        return next(value for n, value, _ in fields(await self.ask("Maintenance/Status")) if n == 4)

    async def member_id(self) -> int:
        for n, _, header in fields(await self.ask("Maintenance/Status")):
            if n == 1:
                return next(value for m, value, _ in fields(header) if m == 2)
        raise AssertionError("a status without a header")

    async def enable_auth(self, prefix: str, user: str, password: str) -> None:
        """``root`` with the password ``root``, and a user that may do everything under the prefix and nothing else."""
        for name, secret in (("root", "root"), (user, password)):
            await self.ask("Auth/UserAdd", blob(1, name.encode()) + blob(2, secret.encode()))
        for name in ("root", "tierlog"):
            await self.ask("Auth/RoleAdd", blob(1, name.encode()))
        end = (prefix[:-1] + chr(ord(prefix[-1]) + 1)).encode()
        permission = number(1, 2) + blob(2, prefix.encode()) + blob(3, end)
        await self.ask("Auth/RoleGrantPermission", blob(1, b"tierlog") + message(2, permission))
        for name, role in (("root", "root"), (user, "tierlog")):
            await self.ask("Auth/UserGrantRole", blob(1, name.encode()) + blob(2, role.encode()))
        await self.ask("Auth/AuthEnable")
