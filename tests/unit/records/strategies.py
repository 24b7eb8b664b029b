"""Random records, for the tests of this room and of compaction."""

from __future__ import annotations

from hypothesis import strategies as st

from tierlog.records.records import Record

MILLISECONDS = st.integers(-1, 4_102_444_800_000)
OPTIONAL_BYTES = st.none() | st.binary(max_size=200)
HEADERS = st.lists(st.tuples(st.text(max_size=20), OPTIONAL_BYTES), max_size=4).map(tuple)
RECORDS = st.builds(Record, OPTIONAL_BYTES, OPTIONAL_BYTES, MILLISECONDS, HEADERS)
BATCHES = st.lists(RECORDS, min_size=1, max_size=40)


def plain(record: Record) -> Record:
    """With bytes in the place of memoryviews, for comparison."""
    return Record(
        None if record.key is None else bytes(record.key),
        None if record.value is None else bytes(record.value),
        record.timestamp,
        tuple((name, None if value is None else bytes(value)) for name, value in record.headers),
        record.offset,
    )
