"""The API table against the declarations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.wire.messages import ALL
from tierlog.wire import messages
from tierlog.wire.registry import APIS, ApiSpec
from tierlog.wire.schema import Message, Struct, Versions, fields_of, struct_named
from tierlog.wire.source import FIXED

MODULES = Path(messages.__file__).parent


@pytest.mark.parametrize("spec", APIS.values(), ids=lambda spec: spec.name)
def test_declarations_match_the_table(spec: ApiSpec) -> None:
    for side in (spec.request, spec.response):
        assert spec.key == side.API_KEY
        assert side.VERSIONS[1] >= spec.max_version
        assert spec.flexible_since == side.FLEXIBLE
        assert side.VERSIONS[0] == spec.first_decodable_version
    assert spec.request.VERSIONS == spec.response.VERSIONS


def test_only_produce_is_advertised_below_what_can_be_decoded() -> None:
    assert [s.name for s in APIS.values() if s.min_version < s.first_decodable_version] == ["Produce"]


def test_only_init_producer_id_has_a_newer_unstable_version() -> None:
    assert [s.name for s in APIS.values() if s.request.VERSIONS[1] > s.max_version] == ["InitProducerId"]


def test_every_module_belongs_to_an_api() -> None:
    modules = {path.stem for path in MODULES.glob("*.py")} - {
        "__init__",
        "consumer_protocol",
        "group_records",
    }
    assert modules == {spec.module_name for spec in APIS.values()}


def structs_of(cls: type[Struct]) -> set[type[Struct]]:
    found: set[type[Struct]] = {cls}
    for field in fields_of(cls):
        kind = field.element or field.kind
        if kind not in FIXED and kind not in ("string", "bytes", "records"):
            found |= structs_of(struct_named(cls, kind))
    return found


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_declarations_hold_together(cls: type[Message]) -> None:
    for struct in structs_of(cls):
        annotated = [name for name in struct.__annotations__ if not name.isupper()]
        assert annotated == [field.name for field in fields_of(struct)]
        for field in fields_of(struct):
            assert field.versions.first <= field.versions.last
            assert (field.tag >= 0) == (field.tagged.first <= field.tagged.last)
            if field.tag >= 0:
                assert cls.FLEXIBLE is not None
                assert field.tagged.first >= cls.FLEXIBLE
            nullable = "None" in struct.__annotations__[field.name] or field.kind == "records"
            assert nullable == (field.nullable != Versions(0, -1)) or field.kind == "records"
        tags = [field.tag for field in fields_of(struct) if field.tag >= 0]
        assert len(tags) == len(set(tags))
