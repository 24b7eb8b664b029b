"""``deploy/compose``: every setting is one that its program takes, and the services agree with each other."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.servers import etcd, seaweedfs
from tests.servers.container_root import CONTAINERFILE
from tests.servers.containerfile import stages
from tierlog.broker.offload.bucket import url_problem
from tierlog.config.broker import BrokerConfig
from tierlog.config.properties import load

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "deploy/compose"
FILE: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
BROKERS = [name for name in SERVICES if name.startswith("broker")]
ETCDS = [name for name in SERVICES if name.startswith("etcd")]
IMAGE = stages(CONTAINERFILE.read_text())[-1]


def environment(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES[service]["environment"].items()}


def configured(broker: str) -> BrokerConfig:
    """As the image's command reads it. Raises what a start would say."""
    return load(ROOT / "deploy/server.properties", env=environment(broker), store_problem=url_problem)


def ports(service: str) -> dict[int, int]:
    """Of the container → of this machine, which listens for itself only."""
    found = {}
    for each in SERVICES[service]["ports"]:
        address, outer, inner = each.split(":")
        assert address == "127.0.0.1"
        found[int(inner)] = int(outer)
    return found


def test_three_of_each() -> None:
    assert len(BROKERS) == len(ETCDS) == 3
    assert set(SERVICES) == {*BROKERS, *ETCDS, "s3", "bucket"}


@pytest.mark.parametrize("broker", BROKERS)
def test_a_broker_takes_all_its_settings(broker: str) -> None:
    config = configured(broker)
    assert (config.remarks, list(config.meaningless)) == ((), [])
    known = {name for name in environment(broker) if name.startswith(("KAFKA_", "AWS_"))}
    assert known == set(environment(broker))
    inside, outside = config.advertised_listeners
    assert config.inter_broker_listener_name == inside.name == "INSIDE"
    assert (inside.host, outside.host) == (broker, "localhost")
    assert {each.name: each.port for each in config.listeners} == {
        each.name: each.port for each in config.advertised_listeners
    }
    (http,) = config.tierlog_http_listeners
    assert set(ports(broker)) == {outside.port, http.port}
    assert ports(broker)[outside.port] == outside.port, "clients are told the port that they can reach"
    assert f":{http.port}/readyz" in IMAGE.last("HEALTHCHECK").text
    assert config.topic_defaults.min_insync_replicas < config.default_replication_factor == len(BROKERS)


def test_brokers_differ_where_they_must() -> None:
    configs = [configured(broker) for broker in BROKERS]
    for of in ("node_id", "broker_rack", "advertised_listeners"):
        assert len({getattr(config, of) for config in configs}) == len(BROKERS), of
    for of in ("metadata_store", "tierlog_object_store"):
        assert len({getattr(config, of) for config in configs}) == 1, of
    outer = [port for broker in BROKERS for port in ports(broker).values()]
    assert len(set(outer)) == len(outer)


def test_a_broker_is_confined() -> None:
    for broker in BROKERS:
        service = SERVICES[broker]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["volumes"] == [f"{broker}:{IMAGE.last('VOLUME').text}"]
        assert service["build"]["dockerfile"] == str(CONTAINERFILE.relative_to(ROOT))
        assert (COMPOSE / service["build"]["context"]).resolve() == ROOT


def test_metadata_lies_in_the_etcd_cluster() -> None:
    members = {}
    for name in ETCDS:
        given = environment(name)
        assert given["ETCD_NAME"] == name
        client = urlsplit(given["ETCD_ADVERTISE_CLIENT_URLS"])
        peer = given["ETCD_INITIAL_ADVERTISE_PEER_URLS"]
        assert client.hostname == name
        assert urlsplit(given["ETCD_LISTEN_CLIENT_URLS"]).port == client.port
        assert urlsplit(given["ETCD_LISTEN_PEER_URLS"]).port == urlsplit(peer).port
        assert f"{name}={peer}" in given["ETCD_INITIAL_CLUSTER"].split(",")
        assert SERVICES[name]["volumes"] == [f"{name}:{given['ETCD_DATA_DIR']}"]
        assert f"--endpoints=http://127.0.0.1:{client.port}" in SERVICES[name]["healthcheck"]["test"]
        members[name] = f"{name}:{client.port}"
    store = environment(BROKERS[0])["KAFKA_METADATA_STORE"]
    assert store == f"etcd://{','.join(members.values())}"


@pytest.mark.skipif(etcd.binary() is None, reason="this machine has no etcd server")
def test_etcd_knows_its_settings() -> None:
    done = subprocess.run([etcd.binary() or "", "--help"], capture_output=True, text=True)
    for name in environment(ETCDS[0]):
        flag = "--" + name.removeprefix("ETCD_").lower().replace("_", "-")
        assert re.search(rf"{flag}\b", done.stdout + done.stderr), flag


def test_the_tier_lies_in_the_bucket_that_is_made() -> None:
    url = urlsplit(environment(BROKERS[0])["KAFKA_TIERLOG_OBJECT_STORE"])
    (endpoint,) = parse_qs(url.query)["endpoint"]
    command = SERVICES["s3"]["command"]
    assert endpoint == f"http://s3:{port_of_s3()}"
    (script,) = SERVICES["bucket"]["command"]
    compile(script, "compose.yaml", "exec")
    assert f'"{endpoint}"' in script and f'Bucket="{url.netloc}"' in script
    health = SERVICES["s3"]["healthcheck"]["test"]
    assert health[-1] == f"http://127.0.0.1:{port_of_s3()}/healthz"
    assert "-dir=/data" in command and "s3:/data" in SERVICES["s3"]["volumes"]
    identities = {
        (key["accessKey"], key["secretKey"]): each["actions"]
        for each in json.loads((COMPOSE / "s3.json").read_text())["identities"]
        for key in each["credentials"]
    }
    broker, maker = (
        (environment(name)["AWS_ACCESS_KEY_ID"], environment(name)["AWS_SECRET_ACCESS_KEY"])
        for name in (BROKERS[0], "bucket")
    )
    assert identities[maker] == ["Admin"]
    assert identities[broker] == [f"{verb}:{url.netloc}" for verb in ("Read", "Write", "List")]
    assert f"./s3.json:{config_of_s3()}:ro" in SERVICES["s3"]["volumes"]


def port_of_s3() -> str:
    return flags_of_s3()["s3.port"]


def config_of_s3() -> str:
    return flags_of_s3()["s3.config"]


def flags_of_s3() -> dict[str, str]:
    command = SERVICES["s3"]["command"]
    assert command[0] == "server"
    return {name.lstrip("-"): value for name, _, value in (each.partition("=") for each in command[1:])}


@pytest.mark.skipif(seaweedfs.binary() is None, reason="the weed binary is not installed")
def test_seaweedfs_knows_its_flags() -> None:
    done = subprocess.run([seaweedfs.binary() or "", "help", "server"], capture_output=True, text=True)
    told = done.stdout + done.stderr
    for flag in flags_of_s3():
        assert re.search(rf"^\s+-{re.escape(flag)}\b", told, re.MULTILINE), flag


def test_each_waits_for_what_it_needs() -> None:
    for name, service in SERVICES.items():
        for other, wait in service.get("depends_on", {}).items():
            assert other in SERVICES
            ends = SERVICES[other].get("healthcheck") == {"disable": True}
            assert wait == {"condition": "service_completed_successfully" if ends else "service_healthy"}, (
                name,
                other,
            )
    for broker in BROKERS:
        assert set(SERVICES[broker]["depends_on"]) == {*ETCDS, "bucket"}
    assert set(SERVICES["bucket"]["depends_on"]) == {"s3"}


def test_health_checks_are_commands_that_end() -> None:
    checked = [name for name in SERVICES if "healthcheck" in SERVICES[name]]
    assert set(checked) == {*ETCDS, "s3", "bucket"}, "a broker's is the image's"
    for name in checked:
        check = SERVICES[name]["healthcheck"]
        if check == {"disable": True}:
            continue
        assert check["test"][0] == "CMD" and all(isinstance(each, str) for each in check["test"])
        assert set(check) == {"test", "interval", "timeout", "start_period", "retries"}


def test_all_but_the_one_that_ends_start_again_by_themselves() -> None:
    assert {name for name in SERVICES if SERVICES[name]["restart"] != "unless-stopped"} == {"bucket"}
    assert SERVICES["bucket"]["restart"] == "no"


def test_volumes_are_declared_and_used() -> None:
    used = {each.split(":")[0] for service in SERVICES.values() for each in service.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == set(FILE["volumes"])
    assert all((COMPOSE / name).is_file() for name in used if name.startswith("."))
