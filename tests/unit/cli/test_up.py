"""``tierlog up``: what was said wins over the environment, which wins over the defaults; and it starts fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tierlog.cli.broker import configured, embedded
from tierlog.config.broker import Listener
from tierlog.errors import UserError


def test_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = embedded(None, None, None, None, [])
    assert config.listeners == (Listener("PLAINTEXT", "127.0.0.1", 9092),)
    assert [str(listener) for listener in config.tierlog_http_listeners] == ["HTTP://127.0.0.1:9464"]
    assert config.log_dirs == (str(tmp_path / "data/logs"),)
    assert config.metadata_store == f"sqlite:{tmp_path}/data/metadata.db"
    assert config.tierlog_object_store == f"dir:{tmp_path}/data/objects"
    assert config.remote_log_storage_system_enable


def test_the_environment_wins_over_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_LISTENERS", "PLAINTEXT://127.0.0.1:1234")
    monkeypatch.setenv("KAFKA_TIERLOG_OBJECT_STORE", "s3://bucket/prefix")
    monkeypatch.setenv("KAFKA_NUM_PARTITIONS", "7")
    config = embedded(None, None, None, None, [])
    assert config.listeners[0].port == 1234
    assert config.tierlog_object_store == "s3://bucket/prefix"
    assert config.num_partitions == 7


def test_options_win_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_LISTENERS", "PLAINTEXT://127.0.0.1:1234")
    monkeypatch.setenv("KAFKA_LOG_DIRS", "/elsewhere")
    monkeypatch.setenv("KAFKA_NUM_PARTITIONS", "7")
    config = embedded(tmp_path, None, 0, -1, ["num.partitions=3"])
    assert config.listeners == (Listener("PLAINTEXT", "127.0.0.1", 0),)
    assert config.tierlog_http_listeners == ()
    assert config.log_dirs == (str(tmp_path / "logs"),)
    assert config.num_partitions == 3


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--override num\.partitions: expected KEY=VALUE$"):
        embedded(tmp_path, None, None, None, ["num.partitions"])
    with pytest.raises(UserError, match=r"cannot be read"):
        configured(tmp_path / "absent.properties", [])


def test_the_tree_of_commands_imports_little() -> None:
    code = "import tierlog.cli.app, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy = {"asyncio", "rich", "yaml", "starlette", "pyarrow", "tierlog.broker", "tierlog.wire"}
    assert not heavy & set(done.stdout.split())
