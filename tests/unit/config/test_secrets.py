"""Secrets are never shown: every PASSWORD in every place, names that speak of secrets, and secrets inside other values."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierlog.cli.output import pairs
from tierlog.config.build import build
from tierlog.config.definitions import ConfigType
from tierlog.config.describe import describe_broker, describe_broker_default, describe_topic
from tierlog.config.dynamic import validate_broker_configs
from tierlog.config.lookup import BROKER
from tierlog.config.problems import Property, WrongConfig
from tierlog.config.properties import load
from tierlog.config.secrets import HIDDEN, is_secret, shown, without_secrets
from tierlog.config.topic_configs import validate_topic_configs
from tierlog.errors import UserError

SECRET = "hunter2"
PASSWORDS = [name for name, row in BROKER.items() if row.type is ConfigType.PASSWORD]
UNKNOWN = [
    "listener.name.tls-9093.ssl.keystore.password",
    "listener.name.sasl.plain.sasl.jaas.config",
    "rsm.config.storage.aws.secret.access.key",
    "rsm.config.storage.aws.access.key.id",
    "rsm.config.storage.azure.account.key",
    "rsm.config.storage.gcs.credentials.json",
    "confluent.license.token",
    "zookeeper.ssl.keystore.password",
    "password.encoder.secret",
    "password.encoder.old.secret",
    "delegation.token.master.key",
    "my.api.key",
    "ssl.keystore.passwrd",
]


def test_there_are_passwords() -> None:
    assert len(PASSWORDS) >= 9
    assert all(is_secret(name) for name in PASSWORDS + UNKNOWN)
    assert not any(is_secret(name) for name in BROKER if name not in PASSWORDS)


def outcome(*arguments: object, **more: object) -> str:
    """What the user sees: of the error, or of what was loaded."""
    try:
        config = load(*arguments, **more)  # type: ignore[arg-type]
    except UserError as error:
        return f"{error} {error!r}"
    entries = [*describe_broker(config), *describe_broker_default(config), *describe_topic({}, config)]
    return f"{config} {config!r} {entries} {config.remarks} {config.meaningless}"


@pytest.mark.parametrize("name", PASSWORDS + UNKNOWN)
def test_no_secret_in_any_place(tmp_path: Path, name: str) -> None:
    path = tmp_path / "server.properties"
    path.write_text(f"{name}={SECRET}\n")
    variable = "KAFKA_" + name.replace("-", "___").replace(".", "_").upper()
    given = {name: SECRET, "tierlog.etcd.user": "u"}
    seen = [
        outcome(path),
        outcome({}, env={variable: SECRET}),
        outcome({}, overrides=pairs([f"{name}={SECRET}"], "--override")),
        outcome({name: SECRET, "broken": "1", "num.partitions": "x"}),
        outcome(given),
        outcome({name: "${env:S}", "config.providers": "env"}, env={"S": SECRET}),
        str(validate_broker_configs({name: SECRET}, broker=load({}))),
        str(validate_topic_configs({name: SECRET}, broker=load({}))),
        repr(Property(SECRET, "x", written=SECRET)),
    ]
    with pytest.raises(UserError) as caught:
        pairs([f"{name}:{SECRET}"], "--override")
    seen.append(str(caught.value))
    for text in seen:
        assert SECRET not in text


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_refused_password_is_named_and_hidden(name: str) -> None:
    if name == "tierlog.etcd.password":
        return
    with pytest.raises(WrongConfig) as caught:
        load({name: SECRET})
    assert str(caught.value) == f"properties: {name}={HIDDEN}: not supported yet; remove it"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.store", f"etcd://root:{SECRET}@h:2379"),
        ("tierlog.object.store", f"s3://key:{SECRET}@bucket/p"),
        ("tierlog.object.store", f"s3://bucket/p?region=r&secret.access.key={SECRET}"),
        ("tierlog.object.store", f"s3://bucket/p?access.key.id={SECRET}"),
        ("tierlog.object.store", f"s3://bucket/p?session.token={SECRET}&x=1"),
        ("tierlog.object.store", f"redis://u:{SECRET}@h"),
        ("listeners", f"PLAINTEXT://u:{SECRET}@h:9092"),
        ("advertised.listeners", f"PLAINTEXT://u:{SECRET}@h:9092"),
        ("num.partitions", f'x required username="u" password="{SECRET}";'),
        ("sasl.enabled.mechanisms", f"PLAIN password={SECRET}"),
        ("log.retention.ms", "${env:S}"),
    ],
)
def test_secrets_inside_other_values(name: str, text: str) -> None:
    more = {"config.providers": "env"} if "$" in text else {}
    said = outcome({name: text, **more}, env={"S": SECRET})
    assert SECRET not in said
    assert name in said


def test_a_url_with_secrets_is_refused_by_name() -> None:
    with pytest.raises(WrongConfig, match=r"secret\.access\.key must not stand in a URL"):
        load({"tierlog.object.store": "s3://b?secret.access.key=x"})
    assert load({"tierlog.object.store": "s3://b?profile=p&path.style=true"})
    assert load({"tierlog.object.store": "dir:/var/secrets:x/objects"})


def test_a_config_with_a_password_hides_it_in_its_text_and_keeps_it() -> None:
    config = load({"tierlog.etcd.user": "u", "tierlog.etcd.password": SECRET})
    assert config.tierlog_etcd_password == SECRET
    assert SECRET not in repr(config)
    with pytest.raises(UserError) as caught:
        build({"tierlog.etcd.password": Property(SECRET, "x")})
    assert SECRET not in str(caught.value)


def test_what_is_shown_is_one_printable_line() -> None:
    assert shown("broker.rack", "a\nb\x1b[31m\udc80") == "a\\nb\\x1b[31m\\udc80"
    assert len(shown("broker.rack", "x" * 9999)) < 400
    assert without_secrets("PLAINTEXT://h:9092") == "PLAINTEXT://h:9092"
    assert without_secrets("/etc/token/x") == "/etc/token/x"
