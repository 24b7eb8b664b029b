"""What several brokers of one machine are told, and that their supervisor is loud."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tierlog.cli.broker import embedded
from tierlog.cli.supervisor import (
    MAX_DELAY_S,
    STEADY_S,
    TRIES,
    Member,
    Restarts,
    Supervisor,
    commands,
    members,
)
from tierlog.config.properties import load
from tierlog.errors import UserError


def test_ids_ports_and_directories_count_on(tmp_path: Path) -> None:
    base = embedded(tmp_path, None, 9092, 9464, ["node.id=4"])
    found = members(base, 3, "--brokers")
    assert [each.node_id for each in found] == [4, 5, 6]
    assert [each.addresses for each in found] == [(f"127.0.0.1:{port}",) for port in (9092, 9093, 9094)]
    assert found[2].overrides == {
        "node.id": "6",
        "listeners": "PLAINTEXT://127.0.0.1:9094",
        "tierlog.http.listeners": "HTTP://127.0.0.1:9466",
        "log.dirs": f"{tmp_path}/logs-6",
        "metadata.store": f"sqlite:{tmp_path}/metadata.db",
        "tierlog.object.store": f"dir:{tmp_path}/objects",
    }
    # The first one is the broker that runs alone without the option.
    assert found[0].overrides["log.dirs"] == f"{tmp_path}/logs"


def test_each_can_be_started_as_it_is_told(tmp_path: Path) -> None:
    base = embedded(tmp_path, None, 0, -1, [])
    for member in members(base, 2, "--brokers"):
        config = load(None, overrides=member.overrides)
        assert config.node_id == member.node_id
        assert config.listeners[0].port == 0  # a free one each
        assert config.tierlog_http_listeners == ()
        assert config.metadata_store == base.metadata_store


def test_advertised_ports_count_on_where_they_were_named(tmp_path: Path) -> None:
    named = {
        "listeners": "A://:9000,B://127.0.0.1:9100",
        "advertised.listeners": "A://a.example:19000,B://b.example:19100",
        "listener.security.protocol.map": "A:PLAINTEXT,B:PLAINTEXT",
        "inter.broker.listener.name": "A",
        "log.dirs": str(tmp_path / "logs"),
    }
    _, second = members(load(named), 2, "--processes")
    assert second.overrides["listeners"] == "A://:9001,B://127.0.0.1:9101"
    assert second.overrides["advertised.listeners"] == "A://a.example:19001,B://b.example:19101"


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--brokers 2: metadata\.store=memory: cannot be shared"):
        members(embedded(tmp_path, None, None, None, ["metadata.store=memory:"]), 2, "--brokers")
    with pytest.raises(UserError, match="--brokers 3: port 9094 would be of two listeners"):
        members(embedded(tmp_path, None, 9092, 9094, []), 3, "--brokers")
    with pytest.raises(UserError, match="there is no port 65536"):
        members(embedded(tmp_path, None, 65535, -1, []), 2, "--brokers")


def test_the_command_of_each() -> None:
    told = commands(["broker", "--config=c"], [Member(3, (), {"node.id": "3", "log.dirs": "/a"})])
    assert told[3][1:] == [
        "-m",
        "tierlog",
        "broker",
        "--config=c",
        "--override",
        "node.id=3",
        "--override",
        "log.dirs=/a",
    ]


def running(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_the_end_of_one_is_said_aloud(capfd: pytest.CaptureFixture[str]) -> None:
    killed = "import os, signal; print('hello', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    commands_of = {1: running("print('x' * 3_000_000); raise SystemExit(0)"), 2: running(killed)}
    with pytest.raises(UserError, match="not all brokers have ended well"):
        await Supervisor(commands_of, first_delay_s=0.001).run()
    said = capfd.readouterr().err
    assert said.count("[broker 2] hello\n") == TRIES
    assert said.count("tierlog: broker 2 was killed by SIGKILL; ") == TRIES
    assert "it is started again in 0.001 s\n" in said
    assert f"it has failed {TRIES} times in a row and is left alone\n" in said
    assert said.count("tierlog: broker 1 has ended with exit code 0; ") == 1, "it is not started again"


async def test_one_that_comes_back_has_not_failed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    once = f"import pathlib; pathlib.Path({str(tmp_path / 'was here')!r}).mkdir()"
    fails_once = f"{once[:-1]}exist_ok=False)"
    until_there = f"import sys\ntry:\n    {fails_once}\nexcept FileExistsError:\n    sys.exit(0)\nsys.exit(3)"
    await Supervisor({1: running(until_there)}, first_delay_s=0.001).run()
    said = capfd.readouterr().err
    assert (
        "tierlog: broker 1 has ended with exit code 3; 0 of 1 go on; it is started again in 0.001 s\n" in said
    )


async def test_a_stop_does_not_wait_for_who_is_to_start_again() -> None:
    supervisor = Supervisor({1: running("raise SystemExit(3)")}, first_delay_s=3600)
    asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(PATIENT_S):
        with pytest.raises(UserError, match="not all brokers have ended well"):
            await supervisor.run()


def test_each_failure_in_a_row_waits_longer_up_to_a_bound() -> None:
    restarts = Restarts()
    assert [restarts.delay_s(0.5) for _ in range(TRIES)] == [1, 2, 4, 8, 16, None]
    restarts = Restarts()
    assert [restarts.delay_s(0.5), restarts.delay_s(3), restarts.delay_s(STEADY_S)] == [1, 2, 1]
    assert Restarts(100).delay_s(1) == MAX_DELAY_S
