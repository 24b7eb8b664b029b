"""systemd itself, as the first process of namespaces of its own, in the root that the container image was built as.

It sees no unit but ours and empty targets, runs them with all that they ask for (users, read-only mounts, filters of system
calls, the watchdog), and takes everything with it when it is killed. Needs root; ``why_impossible`` says what is missing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.patience import PATIENT_S
from tests.servers.container_root import Image, devices, mounts
from tests.servers.parents import die_with_parent

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = Path(__file__).resolve().parents[2] / "deploy/systemd"
TARGETS = ("basic", "sysinit", "shutdown", "multi-user", "network-online", "umount", "final")
# Where the output of services goes: there is no journal.
LOG = "/run/tierlog.log"
DROP_IN = f"""[Service]
StandardOutput=append:{LOG}
StandardError=append:{LOG}
# This machine's Python may lie in a home, which the service may not see; its libraries are there, too.
Environment=LD_LIBRARY_PATH=/usr/local/lib
"""


class RealSystemd:
    """``with``; ``root`` is its file system as seen from here."""

    def __init__(self, image: Image, directory: Path) -> None:
        self._image = image
        self._directory = directory
        self._merged = directory / "root"
        self._cgroup = f"tierlog-test-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> RealSystemd:
        directory = self._directory
        for name in ("root", "upper", "upper.work", "targets"):
            (directory / name).mkdir(parents=True)
        for name in TARGETS:
            unit = f"[Unit]\nDescription={name}\nDefaultDependencies=no\n"
            (directory / f"targets/{name}.target").write_text(unit)
        (directory / "test.conf").write_text(DROP_IN)
        inside = directory / "inside.sh"
        inside.write_text("\n".join(self._inside()))
        into_cgroup = [
            "mount -t cgroup2 cgroup /mnt",
            f"mkdir -p /mnt/{self._cgroup}",
            f"echo $$ > /mnt/{self._cgroup}/cgroup.procs",
            "umount /mnt",
            "exec unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup --propagation private "
            f"sh -e {inside}",
        ]
        with (directory / "log").open("wb") as output:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(into_cgroup)],
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        try:
            self._await_first_process()
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process is not None
        # With the first process of a namespace all others end, before its parent is told.
        os.kill(self._pid, signal.SIGKILL)
        self._process.wait(PATIENT_S)
        remove = f"mount -t cgroup2 cgroup /mnt && find /mnt/{self._cgroup} -depth -type d -exec rmdir {{}} +"
        subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", remove], check=True)

    def ctl(self, *arguments: str) -> str:
        """``systemctl``; raises RuntimeError with what it and the services said."""
        done = self.run("systemctl", *arguments)
        if done.returncode:
            raise RuntimeError(f"systemctl {' '.join(arguments)}: {done.stderr}{self.log()[-4000:]}")
        return done.stdout

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        namespaces = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup")
        enter = ["nsenter", f"--target={self._pid}", *namespaces]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=PATIENT_S)

    def show(self, unit: str, name: str) -> str:
        return self.ctl("show", unit, f"--property={name}", "--value").strip()

    def main_pid(self, unit: str) -> int:
        """As seen from here."""
        inside = self.show(unit, "MainPID")
        (found,) = (
            int(status.parent.name)
            for status in Path("/proc").glob("[0-9]*/status")
            if _pids(status)[1:] == [inside] and _is_in(status, self._pid)
        )
        return found

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def log(self) -> str:
        path = self.root / LOG.lstrip("/")
        return path.read_text() if path.exists() else (self._directory / "log").read_text()

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self._pid}/root")

    @property
    def pid(self) -> int:
        return self._pid

    def _inside(self) -> list[str]:
        root = self._merged
        made = [
            f"mount -t proc proc {root}/proc",
            f"mount --bind {root}/proc/sys {root}/proc/sys",
            f"mount -o remount,bind,ro {root}/proc/sys",
            f"mkdir -p {root}/sys {root}/run {root}/var/tmp",
            f"mount -t sysfs -o ro sys {root}/sys",
            f"mount -t cgroup2 cgroup {root}/sys/fs/cgroup",
            f"mount -t tmpfs run {root}/run",
            f"mkdir {root}/dev/pts",
            f"mount -t devpts -o newinstance,ptmxmode=0666 pts {root}/dev/pts",
            f"ln -s pts/ptmx {root}/dev/ptmx",
            f"mount --bind {self._directory}/targets {root}/usr/lib/systemd/system",
            f"mkdir -p {root}/etc/systemd/system/tierlog.service.d {root}/etc/systemd/system/tierlog@.service.d",
            f"cp {UNITS}/*.service {root}/etc/systemd/system/",
            f"cp {self._directory}/test.conf {root}/etc/systemd/system/tierlog.service.d/",
            f"cp {self._directory}/test.conf {root}/etc/systemd/system/tierlog@.service.d/",
            f": > {root}/etc/machine-id",
            "ip link set lo up",
            f"cd {root}",
            "mkdir old",
            "pivot_root . old",
            "export container=test",
            f"exec chroot . sh -c 'umount -l /old; exec {SYSTEMD} --system --unit=basic.target'",
        ]
        own = [each for each in devices(root) if f"{root}/proc" not in each]  # its own, of its own processes
        return [*mounts(self._image.built, root, self._directory / "upper"), *own, *made]

    def _await_first_process(self) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline_s = time.monotonic() + PATIENT_S
        while True:
            found = children.read_text().split() if children.exists() else []
            if found:
                self._pid = int(found[0])
                if self.run("systemctl", "is-active", "basic.target").stdout == "active\n":
                    return
            log = (self._directory / "log").read_text()
            assert self._process.poll() is None and time.monotonic() < deadline_s, log
            time.sleep(0.05)


def why_impossible() -> str | None:
    return None if SYSTEMD.exists() and shutil.which("systemctl") else "there is no systemd on this machine"


def _pids(status: Path) -> list[str]:
    """The numbers of a process, from the outermost namespace inwards; none if it has just ended."""
    try:
        (line,) = (each for each in status.read_text().splitlines() if each.startswith("NSpid:"))
    except (OSError, ValueError):
        return []
    return line.split()[1:]


def _is_in(status: Path, first: int) -> bool:
    try:
        return status.with_name("ns").joinpath("pid").readlink() == Path(f"/proc/{first}/ns/pid").readlink()
    except OSError:
        return False
