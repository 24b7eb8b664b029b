"""A Containerfile carried out without a container engine: its steps run in roots of their own, its command as it says.

The base image is stood in for by this machine's Python at ``/usr/local`` and by its ``/usr``, both read-only, beside an
``/etc`` and a ``/var`` that are as good as empty. Each step that changes files is a layer of an overlay, as in an engine. A
RUN with a cache mount is the costly one (a minute): its layer is kept in ``.cache/container`` while what led to it is the
same; ``tools/install_test_deps.sh`` makes it before the tests. Needs root, and a kernel that allows mounts.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.patience import PATIENT_S
from tests.servers.containerfile import Instruction, Stage, expanded, is_in_context, stages
from tests.servers.parents import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "deploy/container/Containerfile"
CACHE = ROOT / ".cache/container"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/python"
# How pip reaches its index from here.
PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT", "PIP_DEFAULT_TIMEOUT")
_CLONE_NEWNET = 0x40000000
_UNSHARED = ("unshare", "--mount", "--propagation", "private")
T = TypeVar("T")


def why_impossible() -> str | None:
    if os.getuid() != 0:
        return "roots of their own need root"
    probe = "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/m && "
    probe += "mount -t overlay o -o lowerdir=/usr,upperdir=/mnt/u,workdir=/mnt/w /mnt/m && ip link set lo up"
    try:
        done = subprocess.run([*_UNSHARED, "--net", "sh", "-c", probe], capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no unshare (util-linux) here"
    return f"the kernel allows no namespaces or overlays: {done.stderr.strip()}" if done.returncode else None


@dataclass
class Built:
    """A stage that has been built: layers, the lowest first, and where files of another stage are seen."""

    layers: list[Path]
    binds: list[tuple[Built, str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = "/"
    key: str = ""


class Image:
    """What ``build`` made; ``stage`` has its metadata."""

    def __init__(self, stage: Stage, built: Built, directory: Path) -> None:
        self.stage, self.built = stage, built
        self._directory = directory

    @property
    def command(self) -> list[str]:
        return self.stage.last("ENTRYPOINT").arguments + self.stage.last("CMD").arguments

    @property
    def health_command(self) -> list[str]:
        """Without a shell."""
        text = self.stage.last("HEALTHCHECK").text
        assert text.startswith("CMD [")
        return Instruction("CMD", (), text.removeprefix("CMD ")).arguments

    def launch(self, name: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """The image's command as its user, on a root that is read-only but for its volume, in a network of its own. The
        process is the command itself. Its output: ``log(name)``."""
        volume = self._directory / f"{name}.volume"
        volume.mkdir(exist_ok=True)
        script = [
            "ip link set lo up",
            *self._mounts(),
            f"chown --reference={self._merged}{self.volume} {volume}",
            f"mount --bind {volume} {self._merged}{self.volume}",
            "exec " + shlex.join(self._inside(self.command, environment or {})),
        ]
        with self.log(name).open("ab") as output:
            process = subprocess.Popen(
                [*_UNSHARED, "--net", "sh", "-ec", "\n".join(script)],
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        # Until it is in its own network: who looks for it would look here.
        while process.poll() is None and network(process.pid) == network(os.getpid()):
            time.sleep(0.001)
        return process

    def health(self, process: subprocess.Popen[bytes]) -> subprocess.CompletedProcess[str]:
        """The health check, in the container of ``process``."""
        enter = ["nsenter", f"--target={process.pid}", "--mount", "--net"]
        return subprocess.run(
            [*enter, *self._inside(self.health_command, {})], capture_output=True, text=True, check=False
        )

    def log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    @property
    def volume(self) -> str:
        return self.stage.last("VOLUME").text

    @property
    def _merged(self) -> Path:
        return self._directory / "root"

    def _mounts(self) -> list[str]:
        self._merged.mkdir(exist_ok=True)
        return [*mounts(self.built, self._merged, None), *devices(self._merged)]

    def _inside(self, command: Sequence[str], environment: dict[str, str]) -> list[str]:
        user, _, group = self.stage.last("USER").text.partition(":")
        values = {"HOME": "/", **self.built.environment, **environment}
        become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        become += ["--bounding-set=-all", "--inh-caps=-all"]
        variables = [f"{name}={value}" for name, value in values.items()]
        clean = ["env", "-i", f"--chdir={self.built.workdir}", *variables]
        return ["chroot", str(self._merged), *become, *clean, *command]


def network(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def mounts(built: Built, merged: Path, upper: Path | None) -> list[str]:
    """The commands that put the root of a stage together at ``merged``; without ``upper`` it is read-only."""
    lower = ":".join(map(str, reversed(built.layers)))
    options = f"lowerdir={lower}"
    if upper is not None:
        options += f",upperdir={upper},workdir={upper}.work"
    found = [f"mount -t overlay overlay -o {options} {merged}"]
    found += [f"mount --rbind /usr {merged}/usr", f"mount -o remount,bind,ro {merged}/usr"]
    prefix = sys.base_prefix
    if Path(prefix) != Path("/usr"):
        # Twice: a Python that was built elsewhere looks for its libraries where it was installed.
        for target in ("/usr/local", prefix):
            found += [
                f"mount --bind {prefix} {merged}{target}",
                f"mount -o remount,bind,ro {merged}{target}",
            ]
    found += [f"mount --bind /etc/ssl {merged}/etc/ssl", f"mount -o remount,bind,ro {merged}/etc/ssl"]
    for number, (other, source, target) in enumerate(built.binds):
        below = merged.parent / f"{merged.name}.{number}"
        below.mkdir(exist_ok=True)
        found += [
            f"mount -t overlay overlay -o lowerdir={':'.join(map(str, reversed(other.layers)))} {below}",
            f"mount --bind {below}{source} {merged}{target}",
            f"mount -o remount,bind,ro {merged}{target}",
        ]
    return found


def devices(merged: Path) -> list[str]:
    found = [f"mount --rbind /proc {merged}/proc", f"mount -t tmpfs -o mode=755 dev {merged}/dev"]
    for name in ("null", "zero", "full", "random", "urandom"):
        found += [f"touch {merged}/dev/{name}", f"mount --bind /dev/{name} {merged}/dev/{name}"]
    return [*found, f"mkdir -m 1777 {merged}/dev/shm", f"mount -t tmpfs shm {merged}/dev/shm"]


def base(directory: Path) -> Path:
    """The stand-in for the base image: mount points, and the few files of ``/etc`` that programs ask for."""
    found = directory / "base"
    for name in ("usr", "proc", "dev", "etc/ssl", "var/lib", "opt", "root", "src"):
        (found / name).mkdir(parents=True)
    (found / sys.base_prefix.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (found / "tmp").mkdir()
    (found / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (found / name).symlink_to(f"usr/{name}")
    (found / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (found / "etc/group").write_text("root:x:0:\n")
    # The base image has a python; a system's may be python3 only.
    (found / "python").mkdir()
    (found / "python/python").symlink_to("/usr/bin/python3")
    for name in ("shadow", "gshadow"):
        (found / "etc" / name).write_text("")
    for name in ("login.defs", "ld.so.cache", "ld.so.conf", "resolv.conf", "hosts", "nsswitch.conf"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), found / "etc" / name)
    return found


def build(directory: Path) -> Image:
    """Carries the Containerfile out; ``directory`` keeps the layers."""
    found = stages(CONTAINERFILE.read_text())
    lowest = base(directory)
    built: dict[str, Built] = {}
    for number, stage in enumerate(found):
        if stage.base in built:
            raise ValueError(f"FROM {stage.base}: a stage that builds on another is not known here")
        step = _Builder(
            directory / f"stage{number}", Built([lowest], key=f"{stage.base} {sys.version}"), built
        )
        for instruction in stage.instructions:
            step.take(instruction)
        built[stage.name] = step.built
    return Image(found[-1], built[found[-1].name], directory)


class _Builder:
    """One stage while it is being built."""

    def __init__(self, directory: Path, built: Built, others: dict[str, Built]) -> None:
        self._directory, self.built, self._others = directory, built, others
        directory.mkdir()

    def take(self, instruction: Instruction) -> None:
        built = self.built
        self._led_to(instruction.word, *map("=".join, instruction.flags), instruction.text)
        if instruction.word == "ENV":
            for each in shlex.split(instruction.text):
                name, _, value = each.partition("=")
                built.environment[name] = expanded(value, built.environment)
        elif instruction.word == "WORKDIR":
            built.workdir = instruction.text
        elif instruction.word == "COPY":
            self._copy(instruction)
        elif instruction.word == "RUN":
            self._run(instruction)

    def _led_to(self, *texts: str | bytes) -> None:
        digest = hashlib.sha256(self.built.key.encode())
        for text in texts:
            digest.update(b"\0" + (text.encode() if isinstance(text, str) else text))
        self.built.key = digest.hexdigest()

    def _layer(self) -> Path:
        layer = self._directory / f"layer{len(self.built.layers)}"
        layer.mkdir()
        return layer

    def _copy(self, instruction: Instruction) -> None:
        source, target = instruction.arguments
        of = dict(instruction.flags).get("from")
        if of is not None:
            layer = self._layer()
            (layer / target.lstrip("/")).mkdir(parents=True)
            self.built.layers.append(layer)
            self.built.binds.append((self._others[of], source, target))
            return
        layer = self._layer()
        where = layer / os.path.join(self.built.workdir, target).lstrip("/")
        if target.endswith("/"):
            where /= Path(source).name
        for path, name in _context(source):
            to = where / name if name else where
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
            self._led_to(name, path.read_bytes())
        self.built.layers.append(layer)

    def _run(self, instruction: Instruction) -> None:
        caches = []
        for name, value in instruction.flags:
            mount = dict(each.partition("=")[::2] for each in value.split(","))
            assert name == "mount" and mount["type"] == "cache", f"RUN --{name}={value} is not known here"
            caches.append(mount["target"])
        is_kept = bool(caches)
        kept = CACHE / self.built.key
        if is_kept and kept.exists():
            self.built.layers.append(kept)
            return
        if is_kept:
            shutil.rmtree(CACHE, ignore_errors=True)
            CACHE.mkdir(parents=True)
        layer = CACHE / "unfinished" if is_kept else self._layer()
        layer.mkdir(exist_ok=True)
        self._carry_out(instruction.text, layer, caches)
        self.built.layers.append(layer.rename(kept) if is_kept else layer)

    def _carry_out(self, command: str, layer: Path, caches: Sequence[str]) -> None:
        merged = self._directory / "root"
        for directory in (merged, Path(f"{layer}.work")):
            directory.mkdir(exist_ok=True)
        script = [*mounts(self.built, merged, layer), *devices(merged)]
        for target in caches:
            cache = Path.home() / ".cache/pip"
            cache.mkdir(parents=True, exist_ok=True)
            script += [f"mkdir -p {merged}{target}", f"mount --bind {cache} {merged}{target}"]
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        values = {"HOME": "/root", **self.built.environment, **passed_on}
        variables = [f"{name}={value}" for name, value in values.items()]
        inside = ["env", "-i", f"--chdir={self.built.workdir}", *variables, "sh", "-c", command]
        script.append("exec " + shlex.join(["chroot", str(merged), *inside]))
        done = subprocess.run(
            [*_UNSHARED, "sh", "-ec", "\n".join(script)], capture_output=True, text=True, check=False
        )
        shutil.rmtree(f"{layer}.work", ignore_errors=True)
        if done.returncode:
            raise RuntimeError(f"RUN {command}: {done.stdout}{done.stderr}")


def _context(source: str) -> Iterator[tuple[Path, str]]:
    """The files of the build's context at ``source``, and their names below it."""
    ignored = (ROOT / ".containerignore").read_text()
    top = ROOT / source
    for path in [top] if top.is_file() else sorted(top.rglob("*")):
        if path.is_file() and is_in_context(str(path.relative_to(ROOT)), ignored):
            yield path, "" if path == top else str(path.relative_to(top))


@contextmanager
def running(image: Image, name: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The container until the block ends."""
    process = image.launch(name, environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENT_S)


def in_network(pid: int, call: Callable[[], T]) -> T:
    """``call()`` in a thread that sees the network of process ``pid``; sockets made there stay in it."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with open(f"/proc/{pid}/ns/net") as there:
                if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            found.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


if __name__ == "__main__":  # makes the layer that is kept
    if why_impossible() is None:
        with tempfile.TemporaryDirectory() as directory:
            build(Path(directory))
