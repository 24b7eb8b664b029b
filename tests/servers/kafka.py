"""Apache Kafka 4.4.0 as a peer: a broker on free ports of the loopback, Kafka's own tools, and our Java clients.

The jars lie under ``.cache/kafka``, where ``tools/install_test_deps.sh`` puts them. Nothing here downloads.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.patience import PATIENT_S
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / ".cache" / "kafka"
LOG_CONFIG = ROOT / "tools" / "kafka_peer" / "log4j2.properties"
CLUSTER_ID = "dGllcmxvZy1wZWVyLTAwMQ"  # Kafka wants 16 bytes in URL-safe base64.
START_TIMEOUT_S = 2 * PATIENT_S
STOP_TIMEOUT_S = PATIENT_S
# What Kafka's start script gives its JVM.
SERVER_FLAGS = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
# A program of a second has no use for the optimizing compiler or for several collector threads.
SHORT_FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256M")


def absent() -> str | None:
    """Why nothing of Java can run here, or None."""
    if shutil.which("java") is None:
        return "no java on this machine"
    if not (JARS / ".resolved").exists():
        return "Apache Kafka's jars are not resolved: run tools/install_test_deps.sh"
    return None


def java(part: str, flags: Sequence[str] = SHORT_FLAGS, *, classes: Sequence[Path] = ()) -> list[str]:
    """The command up to the class name, on the jars of ``part`` (broker, tools)."""
    path = ":".join([str(JARS / part / "*"), *map(str, classes)])
    return ["java", *flags, f"-Dlog4j2.configurationFile={LOG_CONFIG}", "-cp", path]


@dataclass(frozen=True, slots=True)
class Finished:
    """A Java program that has ended well: its standard output, and its log."""

    out: str
    log: str

    def rows(self) -> dict[str, str]:
        """Lines ``name<TAB>value``, as our programs print them."""
        return dict(line.split("\t", 1) for line in self.out.splitlines() if "\t" in line)


def run(command: Sequence[str], *, timeout_s: float = 90.0, stdin: str = "") -> Finished:
    """Runs to the end; an exit code other than 0 fails the test with the program's own words."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "TIERLOG_PEER_LOG": os.environ.get("TIERLOG_PEER_LOG", "warn")},
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        tail = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        raise AssertionError(f"{' '.join(command[-6:])}: exit code {done.returncode}\n{tail}")
    return Finished(done.stdout, done.stderr)


def tool(name: str, *args: str, timeout_s: float = 90.0, stdin: str = "") -> Finished:
    """One of Kafka's command-line tools, such as ``DumpLogSegments`` or ``consumer.ConsoleConsumer``."""
    command = [*java("tools"), f"org.apache.kafka.tools.{name}", *args]
    return run(command, timeout_s=timeout_s, stdin=stdin)


def program(name: str, *args: str, timeout_s: float = 90.0) -> Finished:
    """One of ``tests/e2e/java``, on kafka-clients 4.4.0."""
    return run([*java("broker", classes=[JARS / "classes"]), name, *args], timeout_s=timeout_s)


@dataclass
class KafkaProcess:
    """One combined broker and controller, formatted at the first start; ports stay over restarts.

    The same verbs as ``BrokerProcess``, so that a test can run on either.
    """

    directory: Path
    overrides: Mapping[str, str] = field(default_factory=dict)
    tiered: bool = False
    heap: str = "512M"

    def __post_init__(self) -> None:
        self.port, self.controller_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.directory / "broker.log"
        self.properties = self.directory / "server.properties"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_dir(self) -> Path:
        return self.directory / "logs"

    @property
    def objects(self) -> Path:
        return self.directory / "objects"

    def start(self) -> KafkaProcess:
        """Returns once the broker says that it has started."""
        self.launch()
        self.await_started()
        return self

    def await_started(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while b"Kafka Server started" not in self.log.read_bytes():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Kafka did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)

    def launch(self) -> None:
        """Formats where needed and starts the process, without waiting for it."""
        assert self.process is None
        self.format()
        command = [*java("broker", (f"-Xms{self.heap}", f"-Xmx{self.heap}", *SERVER_FLAGS))]
        command += ["kafka.Kafka", str(self.properties)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TIERLOG_PEER_LOG": "info"},
                preexec_fn=die_with_parent,
            )

    def format(self) -> None:
        """Makes the data directory where there is none yet; ``launch`` does so too."""
        if self.properties.exists():
            return
        self.objects.mkdir(parents=True, exist_ok=True)
        rows = {**self._defaults(), **(self._tier() if self.tiered else {}), **self.overrides}
        self.properties.write_text("".join(f"{key}={value}\n" for key, value in rows.items()))
        command = [*java("broker"), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID]
        run([*command, "-c", str(self.properties)])

    def _defaults(self) -> dict[str, str]:
        ours, controller = self.bootstrap, f"127.0.0.1:{self.controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{ours},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{ours}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.log_dir),
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }

    def _tier(self) -> dict[str, str]:
        storage = "org.apache.kafka.server.log.remote.storage.LocalTieredStorage"
        return {
            "remote.log.storage.system.enable": "true",
            "remote.log.storage.manager.class.name": storage,
            "remote.log.storage.manager.class.path": str(JARS / "tiered" / "*"),
            "remote.log.storage.manager.impl.prefix": "rsm.config.",
            "rsm.config.dir": str(self.objects),
            "remote.log.metadata.manager.listener.name": "PLAINTEXT",
            "rlmm.config.remote.log.metadata.topic.replication.factor": "1",
            "remote.log.manager.task.interval.ms": "1000",
            "log.retention.check.interval.ms": "2000",
        }

    def stop(self) -> int:
        """SIGTERM, and the exit code: 143 is a JVM's clean end by SIGTERM."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def __enter__(self) -> KafkaProcess:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def install_without_apt() -> None:
    """Resolves and compiles what is missing where Maven and a JDK are already there; changes nothing else."""
    script = ROOT / "tools" / "install_test_deps.sh"
    subprocess.run([str(script), "--no-apt"], check=True, stdout=sys.stderr, timeout=600)
