"""etcd's messages as bytes, and transactions in etcd's form."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.metadata.stores.etcd import messages
from tierlog.metadata.stores.etcd.keyspace import Keyspace
from tierlog.metadata.stores.etcd.protobuf import (
    BadMessage,
    blob,
    fields,
    message,
    number,
    read_varint,
    varint,
)
from tierlog.metadata.transactions import Compare, Delete, Get, Put, Txn

INT64 = st.integers(0, 2**63 - 1)


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_read_back(value: int) -> None:
    data = varint(value)
    assert read_varint(b"\xff" + data, 1) == (value, 1 + len(data))
    assert len(data) == max(1, -(-value.bit_length() // 7))


@given(st.lists(st.tuples(st.integers(1, 200), INT64 | st.binary(max_size=300))))
def test_fields_are_read_back(given_fields: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(number(n, v) if isinstance(v, int) else message(n, v) for n, v in given_fields)
    expected = [(n, v, b"") if isinstance(v, int) else (n, 0, v) for n, v in given_fields if v != 0]
    assert list(fields(data)) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (
        messages.key_value,
        messages.range_answer,
        messages.txn_answer,
        messages.watch_answer,
        messages.watch_event,
        messages.lease_answer,
    ):
        with contextlib.suppress(BadMessage):
            read(data)


@given(key=st.binary(), value=st.binary(max_size=300), create=INT64, mod=INT64, version=INT64, lease=INT64)
def test_a_key_value_is_read_back(
    key: bytes, value: bytes, create: int, mod: int, version: int, lease: int
) -> None:
    data = (
        blob(1, key)
        + number(2, create)
        + number(3, mod)
        + number(4, version)
        + blob(5, value)
        + number(6, lease)
    )
    assert messages.key_value(data) == (key, value, create, mod, lease)


def test_fields_of_fixed_size_and_unknown_ones_are_skipped() -> None:
    fixed = varint(7 << 3 | 1) + bytes(8) + varint(8 << 3 | 5) + bytes(4)
    assert list(fields(fixed + number(1, 5))) == [(1, 5, b"")]
    with pytest.raises(BadMessage, match="wire type 3"):
        list(fields(varint(1 << 3 | 3)))
    with pytest.raises(BadMessage, match="ends behind"):
        list(fields(b"\x0a\x05ab"))
    with pytest.raises(BadMessage, match="cut"):
        list(fields(b"\x08\xff"))


def test_requests_as_etcd_documents_them() -> None:
    """Written out by hand from etcd's field numbers."""
    assert (
        messages.range_request(b"k", range_end=b"l", limit=300, revision=5).hex() == "0a016b12016c18ac022005"
    )
    assert messages.compare(b"k", "mod", 7).hex() == "10021a016b3007"
    assert messages.compare(b"k", "create", 7).hex() == "10011a016b2807"
    assert messages.put_op(b"k", b"v", 9).hex() == "12080a016b1201761809"
    assert messages.delete_op(b"k").hex() == "1a030a016b"
    assert messages.txn_op(b"").hex() == "2200"
    assert messages.watch_request(b"k", b"l", 2).hex() == "0a0a0a016b12016c18022001"


def _ops(request: bytes, branch: int) -> list[tuple[int, bytes]]:
    """(kind, message) of the operations of one branch."""
    found = []
    for number_, _, chunk in fields(request):
        if number_ == branch:
            found += [(kind, op) for kind, _, op in fields(chunk)]
    return found


def _keys(request: bytes, branch: int = 2) -> list[str]:
    kinds = {1: "get ", 2: "put ", 3: "delete "}
    found = []
    for kind, op in _ops(request, branch):
        if kind == 4:
            found.append(f"txn {_keys(op)}")
        else:
            found.append(kinds[kind] + next(chunk for n, _, chunk in fields(op) if n == 1).decode())
    return found


def test_a_transaction_begins_with_its_reads() -> None:
    txn = Txn((Compare("/c", "mod", 0),), (Put("/a", b""), Get("/b"), Delete("/d"), Get("/a")), (Get("/e"),))
    request = Keyspace("/x").txn_request(txn)
    assert _keys(request) == ["get /x/b", "get /x/a", "put /x/a", "delete /x/d"]
    assert _keys(request, 3) == ["get /x/e"]


def test_only_what_another_part_writes_is_read_on_the_outside() -> None:
    usual = Txn((), tuple(Txn((Compare(k, "mod", 0),), (Put(k, b""),), (Get(k),)) for k in ("/a", "/b")))
    assert _keys(Keyspace("").txn_request(usual)) == ["txn ['put /a']", "txn ['put /b']"]
    crossed = Txn((), (Put("/a", b""), Txn((), (Put("/b", b""), Get("/b"), Get("/a")))))
    assert _keys(Keyspace("").txn_request(crossed)) == [
        "get /a",
        "put /a",
        "txn ['get /b', 'get /a', 'put /b']",
    ]
