"""Placement: spread first, balance second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tierlog.metadata.control.placement import Candidate, place


@st.composite
def clusters(draw: st.DrawFn) -> list[Candidate]:
    count = draw(st.integers(1, 9))
    racks = draw(st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=count, max_size=count))
    hosts = draw(st.lists(st.sampled_from(["h1", "h2", "h3", "h4"]), min_size=count, max_size=count))
    return [Candidate(i, racks[i], f"{racks[i]}-{hosts[i]}") for i in range(count)]


@given(clusters(), st.integers(1, 40), st.data(), st.integers(0, 2**30))
def test_spreads_over_racks_then_hosts_then_brokers(
    cluster: list[Candidate], count: int, data: st.DataObject, start: int
) -> None:
    factor = data.draw(st.integers(1, len(cluster)))
    by_id = {c.broker_id: c for c in cluster}
    racks, hosts = {c.rack for c in cluster}, {c.host for c in cluster}
    for replicas in place(count, factor, cluster, start):
        assert len(set(replicas)) == factor
        used_racks = {by_id[r].rack for r in replicas}
        assert len(used_racks) == min(factor, len(racks))
        if len(racks) == 1:
            assert len({by_id[r].host for r in replicas}) == min(factor, len(hosts))


@given(st.integers(1, 8), st.integers(1, 60), st.data(), st.integers(0, 2**30))
def test_leaders_and_replicas_are_spread_evenly(
    brokers: int, count: int, data: st.DataObject, start: int
) -> None:
    factor = data.draw(st.integers(1, brokers))
    cluster = [Candidate(i, None, f"h{i}") for i in range(brokers)]
    assignment = place(count, factor, cluster, start)
    led = [sum(r[0] == i for r in assignment) for i in range(brokers)]
    held = [sum(i in r for r in assignment) for i in range(brokers)]
    assert max(led) - min(led) <= 1
    assert max(held) - min(held) <= 2


def test_start_decides_who_is_first() -> None:
    cluster = [Candidate(i, None, f"h{i}") for i in range(3)]
    assert {place(1, 1, cluster, start)[0] for start in range(3)} == {(0,), (1,), (2,)}
    assert place(5, 2, cluster, 1) == place(5, 2, cluster, 1)
