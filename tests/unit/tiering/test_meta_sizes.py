"""What lies beside segments, told from requests: as a listing of the store would have it, whatever was done in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tiering.segments import KEYS
from tiering.keys import CLUSTER_MARKER, deletion_marker, deletion_markers_prefix, topic_record
from tiering.ledger.names import LedgerName, key_of, ledger_prefix
from tiering.metering.meta_sizes import OF_ALL, Listed, MetaSizes, folder_of
from tiering.model import MetaObject
from tiering.objects.measured import MeasuredStore, StoreStats
from tiering.objects.memory import MemoryStore
from tiering.objects.port import list_all

LEDGER = key_of("c", LedgerName(0, 1, "0" * 32))
NAMES = [
    KEYS.head_copy(1),
    KEYS.head_copy(2),
    KEYS.page(MetaObject(1, 2, bytes(16))),
    KEYS.page_index(MetaObject(1, 2, bytes(16))),
    topic_record("c", KEYS.topic_id),
    deletion_marker("c", KEYS.topic_id),
    LEDGER,
    CLUSTER_MARKER,
    KEYS.segments_prefix + "a.seg",
    "doctor-0123",
]
FOLDERS = [
    KEYS.meta_prefix,
    topic_record("c", KEYS.topic_id),
    deletion_markers_prefix("c"),
    ledger_prefix("c"),
    OF_ALL,
]
deeds = st.tuples(st.sampled_from(["put", "get", "list", "delete", "elsewhere"]), st.sampled_from(NAMES))


def told(sizes: MetaSizes) -> dict[str, tuple[int, int]]:
    return {folder: sizes.of(folder) for folder in FOLDERS}


async def listed(store: MemoryStore) -> dict[str, tuple[int, int]]:
    found = dict.fromkeys(FOLDERS, (0, 0))
    async for info in list_all(store, ""):
        folder = folder_of(info.key)
        if folder is not None:
            objects, size_bytes = found[folder]
            found[folder] = objects + 1, size_bytes + info.size_bytes
    return found


@given(st.lists(deeds, max_size=30))
async def test_it_is_what_a_listing_shows(done: list[tuple[str, str]]) -> None:
    """What others put is known once it was listed."""
    store, stats = MemoryStore(), StoreStats(meta_sizes=MetaSizes())
    measured = MeasuredStore(store, stats)
    for number, (verb, key) in enumerate(done):
        data = bytes(number)
        if verb in ("put", "elsewhere"):
            await (measured if verb == "put" else store).put(key, data, size_bytes=len(data))
        elif verb == "delete":
            await measured.delete([key, NAMES[0]])
        elif verb == "list":
            await measured.list("")
        elif key in [info.key async for info in list_all(store, "")]:
            await measured.get(key)
    await measured.list("")
    assert stats.meta_sizes is not None
    assert told(stats.meta_sizes) == await listed(store)


def test_what_was_deleted_during_a_listing_stays_gone() -> None:
    sizes = MetaSizes()
    with sizes.listing() as are_listed:
        sizes.is_there(LEDGER, 5)
        sizes.is_gone([LEDGER])
        are_listed([Listed(LEDGER, 5), Listed(CLUSTER_MARKER, 7)])
        assert (sizes.of(ledger_prefix("c")), sizes.of(OF_ALL)) == ((0, 0), (1, 7))
    with sizes.listing() as are_listed:
        are_listed([Listed(LEDGER, 5)])
    assert sizes.of(ledger_prefix("c")) == (1, 5)


@pytest.mark.parametrize("objects_max", [0, 3])
def test_its_bound(objects_max: int) -> None:
    sizes = MetaSizes(objects_max)
    for _ in range(2):
        for sequence in range(10):
            sizes.is_there(KEYS.head_copy(sequence), 1)
        assert sizes.of(KEYS.meta_prefix) == (objects_max, objects_max)
        sizes.keep([])
        assert sizes.of(KEYS.meta_prefix) == (0, 0)


def test_what_goes_while_listings_never_end_is_bounded_too() -> None:
    sizes = MetaSizes(3)
    with sizes.listing():
        for number in range(10):
            sizes.is_gone([f"meta/c/topics/{number}"])
            sizes.is_there(f"meta/c/topics/{number}", 1)
            sizes.is_gone([f"meta/c/topics/{number + 100}"])
    held = (sizes._folders, sizes._gone)
    assert [len(each) for each in held] == [3, 0]
    with sizes.listing():
        sizes.is_gone(f"meta/c/topics/{number}" for number in range(100, 200))
        assert len(sizes._gone) == 3
