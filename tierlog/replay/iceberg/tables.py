"""A table and the topic that it is of: made once, and known again by its properties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from tierlog.admin.topics import topic_id_text
from tierlog.errors import UserError
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.iceberg.catalogs import explained
from tierlog.replay.iceberg.commits import STEP, name_of
from tierlog.replay.iceberg.offsets import Refused
from tierlog.replay.iceberg.schema import PROPERTIES, table_schema

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

NAMESPACE = "tierlog"
TOPIC, TOPIC_ID = "tierlog.topic", "tierlog.topic-id"
_CATALOG_STEP = "check the catalog and its warehouse, then give the same command again"


def default_name(topic: str) -> str:
    """A dot would begin another namespace."""
    return f"{NAMESPACE}.{topic.replace('.', '_')}"


def created(catalog: Catalog, name: str, topic: str, topic_id: bytes) -> Table:
    """Raises UserError."""
    from pyiceberg.exceptions import TableAlreadyExistsError

    namespace = _namespace_of(name)
    told = PROPERTIES | {TOPIC: topic, TOPIC_ID: topic_id_text(topic_id)}
    exists = UserError(
        f"there is a table {name} already; go on with tierlog table follow {topic}, or choose another name with --table"
    )
    with explained(name, _CATALOG_STEP):
        catalog.create_namespace_if_not_exists(namespace)
        if catalog.table_exists(name):
            raise exists
    with explained(name, "name the place of tables with --warehouse URL, or check the catalog"):
        try:
            return catalog.create_table(name, table_schema(SCHEMA), properties=told)
        except TableAlreadyExistsError:
            raise exists from None


def opened(catalog: Catalog, name: str, topic: str) -> Table:
    """Raises UserError."""
    from pyiceberg.exceptions import NoSuchTableError

    _namespace_of(name)
    with explained(name, _CATALOG_STEP):
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:
            raise UserError(
                f"there is no table {name}; make it with tierlog table create {topic}, or name it with --table"
            ) from None
    told = table.properties.get(TOPIC)
    if told != topic:
        held = "was not made by tierlog table create" if told is None else f"is of topic {told}"
        raise UserError(f"the table {name} {held}; name another one with --table")
    return table


def of_topics(catalog: Catalog, namespace: str) -> Iterator[Table]:
    """Those of a namespace that were made here. Raises UserError."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    with explained(namespace, _CATALOG_STEP):
        try:
            names = catalog.list_tables(namespace)
        except NoSuchNamespaceError:
            return
        for name in sorted(names):
            table = catalog.load_table(name)
            if TOPIC in table.properties:
                yield table


def dropped(catalog: Catalog, name: str, *, purges: bool) -> None:
    """Raises UserError."""
    with explained(name, _CATALOG_STEP):
        if purges:
            catalog.purge_table(name)
        else:
            catalog.drop_table(name)


def refreshed(table: Table) -> Table:
    """As the catalog has it now. Raises UserError; Refused if it is gone or has become another one."""
    from pyiceberg.exceptions import NoSuchTableError

    before = table.metadata.table_uuid
    with explained(name_of(table), STEP):
        try:
            table = table.refresh()
        except NoSuchTableError:
            raise Refused(f"the table {name_of(table)} has been dropped") from None
    if table.metadata.table_uuid != before:
        raise Refused(f"the table {name_of(table)} has been dropped and made anew: start again")
    return table


def check_topic(table: Table, topic: str, topic_id: bytes) -> None:
    """Raises Refused if the topic is another one by now."""
    if table.properties.get(TOPIC_ID) != topic_id_text(topic_id):
        raise Refused(
            f"{topic} has been deleted and made anew: {name_of(table)} keeps the records of the old one; "
            f"begin another table with tierlog table create {topic} --table NAME"
        )


def check_columns(table: Table, schema: pa.Schema, step: str) -> None:
    """Raises Refused if others have changed them."""
    found, wanted = table.schema().as_arrow(), table_schema(schema)
    named = [field.name for field in found]
    if named != wanted.names or any(
        _kind(one.type) != _kind(other.type) for one, other in zip(found, wanted, strict=True)
    ):
        raise Refused(
            f"the table {name_of(table)} has the columns {', '.join(named)}, the records have "
            f"{', '.join(wanted.names)}, or a type is another; {step}"
        )


def _kind(type_: pa.DataType) -> str:
    """Arrow has two of each type without a size."""
    return re.sub("large_|<.*", "", str(type_))


def _namespace_of(name: str) -> str:
    namespace, _, table = name.rpartition(".")
    if not namespace or not table:
        raise UserError(f"--table {name}: expected NAMESPACE.NAME")
    return namespace
