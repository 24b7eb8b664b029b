"""What a loop tells systemd's socket, and when it falls silent."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.systemd import NotifySocket
from tierlog.broker.systemd import Systemd, watchdog_s


def hang(duration_s: float) -> None:
    """What the loop runs meanwhile is nothing else."""
    time.sleep(duration_s)


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(tmp_path / "notify" if request.param == "path" else None) as listening:
        yield listening


async def test_ready_and_stopping_are_told_once(listening: NotifySocket) -> None:
    systemd = Systemd(listening.environment())
    assert listening.told() == []
    systemd.ready()
    systemd.stopping()
    assert listening.told() == ["READY=1", "STOPPING=1"]
    systemd.close()


async def test_a_loop_that_hangs_says_nothing(listening: NotifySocket) -> None:
    systemd = Systemd(listening.environment(watchdog_ms=40))
    assert listening.told() == [], "systemd does not watch a start"
    systemd.ready()
    assert listening.told() == ["READY=1", "WATCHDOG=1"]
    async with asyncio.timeout(PATIENT_S):
        while not listening.told():
            await asyncio.sleep(0.01)
    listening.told()
    hang(0.2)
    assert listening.told() == []
    async with asyncio.timeout(PATIENT_S):
        while not (after := listening.told()):
            await asyncio.sleep(0.01)
    assert set(after) == {"WATCHDOG=1"}
    systemd.close()


async def test_a_full_socket_gets_the_news_later_and_holds_up_nobody(listening: NotifySocket) -> None:
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filler.setblocking(False)
    address = "\0" + listening.name[1:] if listening.name[0] == "@" else listening.name
    with filler, pytest.raises(BlockingIOError):
        while True:
            filler.sendto(b"X", address)
    systemd = Systemd(listening.environment())
    systemd.ready()
    assert "READY=1" not in listening.told()
    async with asyncio.timeout(PATIENT_S):
        while not (told := listening.told()):
            await asyncio.sleep(0.01)
    assert told == ["READY=1"]
    systemd.close()


async def test_without_systemd_nothing_is_told() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        systemd = Systemd(environ)
        assert not systemd.is_there
        systemd.ready()
        systemd.stopping()
        systemd.close()


async def test_a_socket_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    with NotifySocket(tmp_path / "notify") as listening:
        environ = listening.environment(watchdog_ms=10)
    (tmp_path / "notify").unlink()
    systemd = Systemd(environ)
    systemd.ready()
    systemd.stopping()
    systemd.close()


def test_the_time_of_the_watchdog() -> None:
    pid = os.getpid()
    assert watchdog_s({"WATCHDOG_USEC": "30000000"}, pid) == 30
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(pid)}, pid) == 30
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, pid) == 30
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, pid) is None, "it is for another"
    for text in ("", "0", "-1", "soon"):
        assert watchdog_s({"WATCHDOG_USEC": text}, pid) is None
    assert watchdog_s({}, pid) is None
