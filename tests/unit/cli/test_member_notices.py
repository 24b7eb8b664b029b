"""Several brokers under one supervisor: what systemd is told of them, and who is killed when it says nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.systemd import NotifySocket
from tierlog.cli.supervisor import Supervisor

# A broker that says what its arguments say, each when a file of that name is there.
SPEAKER = """
import os, pathlib, signal, socket, sys, time
speaker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for each in sys.argv[2:]:
    while not (pathlib.Path(sys.argv[1]) / each).exists():
        time.sleep(0.01)
    speaker.sendto((each.partition(" ")[0] + "\\n").encode(), "\\0" + os.environ["NOTIFY_SOCKET"][1:])
    print("went on after", each, flush=True)
signal.pause()
"""


def speaker(where: Path, *notices: str) -> list[str]:
    return [sys.executable, "-c", SPEAKER, str(where), *notices]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifySocket]:
    with NotifySocket(tmp_path / "notify") as systemd:
        for name, value in systemd.environment().items():
            monkeypatch.setenv(name, value)
        yield systemd


async def test_ready_is_told_when_all_are(
    tmp_path: Path, systemd: NotifySocket, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "READY=1 a").touch()
    supervisor = Supervisor(
        {1: speaker(tmp_path, "READY=1 a"), 2: speaker(tmp_path, "STATUS=x", "READY=1 b")}
    )
    running = asyncio.create_task(supervisor.run())
    (tmp_path / "STATUS=x").touch()
    async with asyncio.timeout(PATIENT_S):
        while "went on after STATUS=x" not in capfd.readouterr().err:
            await asyncio.sleep(0.01)
    assert systemd.told() == []
    (tmp_path / "READY=1 b").touch()
    assert await asyncio.to_thread(systemd.until, "READY=1") == ["READY=1"]
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Exception, match="not all brokers"):
        await running
    assert systemd.told() == ["STOPPING=1"]


async def test_who_has_ended_is_not_ready(
    tmp_path: Path, systemd: NotifySocket, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first one says that it is ready and ends, before the second one is."""
    ends = SPEAKER.replace("signal.pause()", "")
    (tmp_path / "READY=1 a").touch()
    commands = {1: [sys.executable, "-c", ends, str(tmp_path), "READY=1 a"]}
    await Supervisor(commands).run()
    assert systemd.told() == ["READY=1"], "alone it was all of them"
    capfd.readouterr()
    commands[2] = [sys.executable, "-c", ends, str(tmp_path), "READY=1 c"]
    running = asyncio.create_task(Supervisor(commands).run())
    async with asyncio.timeout(PATIENT_S):
        while "broker 1 has ended" not in capfd.readouterr().err:
            await asyncio.sleep(0.01)
    (tmp_path / "READY=1 c").touch()
    await running
    assert systemd.told() == []


async def test_one_that_says_nothing_is_killed_and_started_again(
    tmp_path: Path,
    systemd: NotifySocket,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Also where it takes no signal but the last."""
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setattr("tierlog.cli.member_notices.ABORT_S", 0.1)
    (tmp_path / "READY=1").touch()
    ignored = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGABRT)]\n"
    supervisor = Supervisor({1: [sys.executable, "-c", ignored + SPEAKER, str(tmp_path), "READY=1"]}, 0.001)
    running = asyncio.create_task(supervisor.run())
    said = ""
    async with asyncio.timeout(PATIENT_S):
        while said.count("broker 1 was killed by SIGKILL; 0 of 1 go on; it is started again") < 2:
            said += capfd.readouterr().err
            await asyncio.sleep(0.02)
    assert "tierlog: broker 1 has not answered for 0.1 s (WatchdogSec); it is killed\n" in said
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Exception, match="not all brokers"):
        await running
    assert {"READY=1", "WATCHDOG=1"} <= set(systemd.told()), "the supervisor's own loop has gone on"


async def test_a_stop_does_not_wait_for_one_that_hangs(
    tmp_path: Path, systemd: NotifySocket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    (tmp_path / "READY=1").touch()
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SPEAKER
    running = asyncio.create_task(
        Supervisor({1: [sys.executable, "-c", deaf, str(tmp_path), "READY=1"]}).run()
    )
    await asyncio.to_thread(systemd.until, "READY=1")
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(PATIENT_S):
        with pytest.raises(Exception, match="not all brokers"):
            await running
    assert "broker 1 was killed by SIGABRT" in capfd.readouterr().err


async def test_a_stranger_is_not_heard(tmp_path: Path, systemd: NotifySocket) -> None:
    """A child of the broker that took over its environment, for one."""
    (tmp_path / "READY=1").touch()
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    ends = SPEAKER.replace("signal.pause()", "")
    await Supervisor({1: [sys.executable, "-c", parent, ends, str(tmp_path), "READY=1"]}).run()
    assert systemd.told() == []
