"""What a store must be able to do before the first object of a cluster goes there; asked once, by whoever claims it."""

from __future__ import annotations

from collections.abc import Iterable

from tiering.doctor.trial import conditions, probe_key, refused_class
from tiering.errors import AccessDenied, Misconfigured, ObjectStoreError
from tiering.objects.classes import StorageClass
from tiering.objects.findings import finding_of
from tiering.objects.port import ObjectStore, PutOptions


async def require_usable(store: ObjectStore) -> None:
    """Writes an object, under conditions, and deletes it. Raises ``Misconfigured`` with one line, and its remedy, where the
    store ignores conditions or refuses the delete; else what the store raises."""
    key = probe_key()
    made = await store.put(key, b"first", size_bytes=5, if_absent=True)
    try:
        found = await conditions(store, key, made.version)
    finally:
        refused = await _deleted(store, key)
    wrong = [each.line for each in found if each.level == "error"]
    if wrong:
        raise Misconfigured(wrong[0])
    if refused is not None:
        raise Misconfigured(f"objects cannot be deleted: {finding_of(refused).line}; then delete {key}")


async def require_classes(store: ObjectStore, classes: Iterable[StorageClass]) -> None:
    """Writes an object of each class, and deletes it. Raises as ``require_usable``."""
    for each in classes:
        key = probe_key()
        try:
            await store.put(key, b"class", size_bytes=5, options=PutOptions(each))
        except ObjectStoreError as error:
            if error.retriable:
                raise
            raise Misconfigured(refused_class(each, error).line) from error
        await _deleted(store, key)


async def _deleted(store: ObjectStore, key: str) -> ObjectStoreError | None:
    """Why the object stays. Raises what may pass by itself."""
    try:
        refused = (await store.delete([key])).get(key)
    except AccessDenied as error:
        refused = error
    if refused is not None and refused.retriable:
        raise refused
    return refused
