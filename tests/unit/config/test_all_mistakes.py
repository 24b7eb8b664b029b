"""All mistakes are said in one go, in the order of the file; hints only where something is near."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierlog.config import strangers
from tierlog.config.lookup import BROKER
from tierlog.config.problems import WrongConfig
from tierlog.config.properties import load
from tierlog.config.spelling import nearest

PACKAGE = "org.apache.kafka.common.config.provider."
TWENTY_ONE = """\
node.id=-5
num.partitions=three
num.partitons=3
quota.producer.default=5
delegation.token.master.key=hunter2
log.segment.bytes=10
listeners=PLAINTEXT:/9092
advertised.listeners=nonsense
tierlog.http.listeners=9464
metadata.store=redis://h
tierlog.object.store=gcs://bucket
ssl.key.password=hunter2
authorizer.class.name=a.B
auto.create.topics.enable=yes
broker.rack=\\u12
log.cleanup.policy=compress
max.connections.per.ip.overrides=host
remote.log.storage.manager.class.name=io.aiven.X
group.min.session.timeout.ms=99999999
flush.mode=fsync
confluent.balancer.enable=true
"""


def mistakes(given: Path | dict[str, str], **more: dict[str, str]) -> list[str]:
    with pytest.raises(WrongConfig) as caught:
        load(given, **more)
    assert str(caught.value) == "\n".join(caught.value.lines)
    return list(caught.value.lines)


def test_a_file_with_mistakes_in_21_lines_says_21_lines_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text(TWENTY_ONE)
    lines = mistakes(path)
    assert [line.split(":")[:2] for line in lines] == [["server.properties", str(n)] for n in range(1, 22)]
    for line, entry in zip(lines, TWENTY_ONE.splitlines(), strict=True):
        assert entry.partition("=")[0] in line
    assert "hunter2" not in "".join(lines)


def test_each_alone_says_the_same(tmp_path: Path) -> None:
    """Being together takes nothing from any of them."""
    path = tmp_path / "server.properties"
    path.write_text(TWENTY_ONE)
    together = mistakes(path)
    for number, entry in enumerate(TWENTY_ONE.splitlines()):
        path.write_text("\n" * number + entry)
        assert mistakes(path) == [together[number]]


def test_environment_and_command_line_come_behind_the_file(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text("x=1\nnum.partitions=a\n")
    env = {"KAFKA_NUM_IO_THREADS": "none", "KAFKA_Y": "1", "KAFKA_CFG_LOG_DIRS": "/x"}
    lines = mistakes(path, env=env, overrides={"fetch.max.bytes": "1", "z": "2"})
    assert [line.split(": ")[0] for line in lines] == [
        "server.properties:1", "server.properties:2", "KAFKA_CFG_LOG_DIRS", "KAFKA_NUM_IO_THREADS", "KAFKA_Y",
        "command line", "command line",
    ]  # fmt: skip


def test_what_follows_from_a_mistake_is_not_said() -> None:
    """A default that stands in for a wrong value is no reason to complain about another."""
    assert (
        len(mistakes({"group.max.session.timeout.ms": "x", "group.min.session.timeout.ms": "2000000"})) == 1
    )
    assert (
        len(mistakes({"tierlog.etcd.user": "u", "tierlog.etcd.password": "${x:y}", "config.providers": "x"}))
        == 1
    )
    assert len(mistakes({"listener.security.protocol.map": "A", "listeners": "B://:1"})) == 1
    assert len(mistakes({"log.retention.hours": "x", "log.local.retention.ms": "99999999999"})) == 1


def test_several_mistakes_of_one_value_are_said_together() -> None:
    (line,) = mistakes({"listeners": "A,PLAINTEXT://:99999,C://:1"})
    assert "'A' is not" in line and "at most 65535" in line and "no protocol for C" in line


def test_the_last_of_repeated_keys_counts(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text("num.partitions=x\nnum.partitions=4\n")
    assert load(path).num_partitions == 4
    path.write_text("num.partitions=4\nnum.partitions=x\n")
    assert [line.split(":")[1] for line in mistakes(path)] == ["2"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("num.partitons", "num.partitions"),
        ("num.partition", "num.partitions"),
        ("num.parttiions", "num.partitions"),
        ("partitions.num", "num.partitions"),
        ("log_dirs", "log.dirs"),
        ("logDirs", "log.dirs"),
        ("LOG.DIRS", "log.dirs"),
        ("log.retention.hour", "log.retention.hours"),
        ("zookeper.connect", None),
        ("broker.id.generation.enable", None),
        ("port", None),
        ("host.name", None),
        ("x", None),
        ("", None),
        ("security.protocol", None),
        ("ssl.enable", None),
        ("max.request.size", None),
        ("bootstrap.servers", None),
    ],
)
def test_hints_are_near_or_absent(name: str, meant: str | None) -> None:
    assert nearest(name, BROKER) == meant


@pytest.mark.parametrize("name", list(strangers._REMOVED))
def test_a_removed_property_says_since_when_and_what_instead(name: str) -> None:
    assert name not in BROKER
    given = {name: "1"}
    try:
        (line,) = load(given).remarks
    except WrongConfig as error:
        (line,) = error.lines
    assert f"{name}: removed in Kafka " in line
    assert "did you mean" not in line and "unknown" not in line


def test_a_removed_property_that_had_no_say_is_taken() -> None:
    config = load({"listeners": "PLAINTEXT://:9092", "port": "9092", "host.name": "h", "advertised.listeners": "PLAINTEXT://h:1",
                   "advertised.port": "5", "broker.id": "3", "broker.id.generation.enable": "true"})  # fmt: skip
    assert len(config.remarks) == 4
    assert config.listeners[0].port == 9092


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"config.providers": "v", "config.providers.v.class": "com.example.Vault", "broker.rack": "${v:a:b}"}, 1),
        ({"config.providers": "e", "config.providers.e.class": f"{PACKAGE}EnvVarConfigProvider",
          "broker.rack": "${e:NONE}", "tierlog.host": "${e:NEITHER}"}, 2),
        ({"config.providers": "env", "config.providers.env.param.allowlist.pattern": "A.*", "broker.rack": "${env:B}"}, 1),
        ({"config.providers": "file", "config.providers.file.param.allowed.paths": "/opt",
          "broker.rack": "${file:/etc/x:B}"}, 1),
        ({"config.providers": "dir", "broker.rack": "${dir:/nowhere:B}"}, 1),
        ({"config.providers.x.class": "a.B"}, 1),
        ({"config.providers": "env", "config.providers.env.param.colour": "red"}, 1),
    ],
)  # fmt: skip
def test_providers_are_honoured_or_refused(given: dict[str, str], count: int) -> None:
    assert len(mistakes(given, env={"B": "2"})) == count


def test_providers_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "rack").write_text("zone-c")
    given = {
        "config.providers": "strimzienv,strimzidir",
        "config.providers.strimzienv.class": f"{PACKAGE}EnvVarConfigProvider",
        "config.providers.strimzienv.param.allowlist.pattern": "MY_.*",
        "config.providers.strimzidir.class": f"{PACKAGE}DirectoryConfigProvider",
        "config.providers.strimzidir.param.allowed.paths": str(tmp_path),
        "broker.rack": f"${{strimzidir:{tmp_path}:rack}}",
        "tierlog.host": "h-${strimzienv:MY_HOST}",
    }
    config = load(given, env={"MY_HOST": "7"})
    assert (config.broker_rack, config.tierlog_host, config.meaningless) == ("zone-c", "h-7", ())


def test_every_class_that_would_have_to_be_loaded_is_refused() -> None:
    """Also where its own row is easily forgotten: a plugin is a promise."""
    plugins = [
        name
        for name in BROKER
        if name.endswith((".class", ".class.name", ".reporters", ".classes")) and "selector" not in name
    ]
    assert len(plugins) > 10
    for name in plugins:
        (line,) = mistakes({name: "com.example.Plugin"})
        assert line.startswith(f"properties: {name}=com.example.Plugin: ")
