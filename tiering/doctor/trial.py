"""Tries on a store what a broker does with it: writes under conditions, reads, deletes; with one object, removed again.

Each failure is named once, under the check that its advice names.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from tiering.errors import ObjectStoreError, PreconditionFailed
from tiering.objects.classes import StorageClass
from tiering.objects.findings import Finding, finding_of
from tiering.objects.port import ObjectStore, PutOptions

CONDITIONS = "conditional writes"
_IGNORED = "brokers could overwrite each other's objects"
_OTHER_SERVER = "use a server that honours If-None-Match and If-Match, or update this one"
More: TypeAlias = Callable[[str], Awaitable[list[Finding]]]


def probe_key() -> str:
    """A name that no other object has."""
    return f"doctor-{uuid.uuid4().hex}"


async def tried(store: ObjectStore, more: More, classes: Sequence[StorageClass] = ()) -> list[Finding]:
    """``more``: what only one provider has, tried with the key of an object that is there, and may be overwritten."""
    key = probe_key()
    findings: list[Finding] = []
    try:
        made = await store.put(key, b"first", size_bytes=5, if_absent=True)
        findings += await conditions(store, key, made.version)
        findings += await _reads(store, key)
        findings += await more(key)
        for each in classes:
            findings += await _class(store, key, each)
    except ObjectStoreError as error:
        findings.append(finding_of(error))
    finally:
        findings += await _removed(store, key)
    if any(each.level != "ok" for each in findings):
        return findings
    return [*findings, Finding("permissions", "ok", "objects can be written, read, listed and deleted")]


def merged(findings: Iterable[Finding], tries: Iterable[Finding]) -> list[Finding]:
    """What the settings say, then what was tried: each mistake once. A check that has failed by its settings is not said to
    fail in the trial as well, and none that has something against it is said to be well."""
    found = list(findings)
    told, failed = {each.check for each in found}, {each.check for each in found if each.level == "error"}
    added = [each for each in tries if each.check not in (told if each.level == "ok" else failed)]
    return list(dict.fromkeys([*found, *added]))


async def conditions(store: ObjectStore, key: str, version: str) -> list[Finding]:
    """Two brokers must never both win the creation of one object, nor both replace one version."""
    try:
        await store.put(key, b"second", size_bytes=6, if_absent=True)
    except PreconditionFailed:
        pass
    else:
        message = f"a write that must not replace an object replaces it: {_IGNORED}"
        return [Finding(CONDITIONS, "error", message, _OTHER_SERVER)]
    try:
        await store.put_if_match(key, b"second", version)
    except PreconditionFailed:
        message = "a write under a condition that holds is refused: metadata cannot be replaced"
        return [Finding(CONDITIONS, "error", message, _OTHER_SERVER)]
    try:
        await store.put_if_match(key, b"third", version)
    except PreconditionFailed:
        return [Finding(CONDITIONS, "ok", "honoured")]
    message = f"a write that must replace one version replaces another: {_IGNORED}"
    return [Finding(CONDITIONS, "error", message, _OTHER_SERVER)]


async def _reads(store: ObjectStore, key: str) -> list[Finding]:
    """The bytes that were written, whole and in part."""
    try:
        _, found = await store.get(key)
        part = await store.get_range(key, 1, 4)
    except ObjectStoreError as error:
        return [finding_of(error)]
    if bytes(part) == bytes(found)[1:4]:
        return []
    message = "a read of some bytes of an object gives others"
    return [Finding("server", "error", message, "use a server that honours Range")]


async def _class(store: ObjectStore, key: str, storage_class: StorageClass) -> list[Finding]:
    """Such an object is billed for the minimum time of its class: a few bytes."""
    try:
        await store.put(key, b"class", size_bytes=5, options=PutOptions(storage_class))
    except ObjectStoreError as error:
        return [refused_class(storage_class, error)]
    return [Finding("classes", "ok", f"{storage_class.label} can be written")]


def refused_class(storage_class: StorageClass, error: ObjectStoreError) -> Finding:
    """What is said of a class in which an object could not be written."""
    found = finding_of(error)
    if found.check == "permissions":
        return found
    message = f"the storage class {storage_class.label} of tierlog.tiers cannot be written: {found.message}"
    return Finding("classes", "error", message, "take it out of tierlog.tiers, or use a server that has it")


async def _removed(store: ObjectStore, key: str) -> list[Finding]:
    try:
        refused = await store.delete([key])
    except ObjectStoreError as error:
        refused = {key: error}
    return [_stays(key, finding_of(error)) for error in refused.values()]


def _stays(key: str, found: Finding) -> Finding:
    if found.check != "permissions":
        return found
    return Finding(
        found.check, found.level, found.message, f"{found.remedy}; then delete {key}, which stayed"
    )
