"""A directory as an object store: what its mount means, what is tried on it, and that nothing of that stays."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from tiering.doctor.directory import examine
from tiering.doctor.mounts import mount_findings
from tiering.doctor.neighbours import LOOKS_MAX, outer_prefixes
from tiering.doctor.wanted import Wanted
from tiering.keys import CLUSTER_MARKER, cluster_marker
from tiering.objects.classes import StorageClass
from tiering.objects.findings import Finding


async def bad(root: Path, wanted: Wanted | None = None) -> list[tuple[str, str]]:
    found = await examine(root, wanted or Wanted())
    return [(each.check, each.level) for each in found if each.level != "ok"]


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiering.doctor.directory.SPACE_BYTES_MIN", 0)
    monkeypatch.setattr("tiering.doctor.directory.MOUNTS", Path("/nowhere"))


def marked(directory: Path, cluster: str) -> None:
    path = directory / CLUSTER_MARKER
    path.parent.mkdir(parents=True)
    path.write_bytes(cluster_marker(cluster))


async def test_a_good_one(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    assert await bad(root) == []
    assert not root.exists(), "a look makes nothing"
    marked(root, "this")
    before = sorted(root.rglob("*"))
    assert await bad(root, Wanted("this", [StorageClass.STANDARD])) == []
    assert sorted(root.rglob("*")) == before


async def test_whose_it_is_and_who_is_near(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    marked(root, "another")
    assert await bad(root, Wanted("this")) == [("cluster", "error")]
    marked(tmp_path, "outer")
    assert await bad(root) == [("neighbours", "warning")]
    marked(root / "deep/inner", "third")
    found = [each for each in await examine(root, Wanted()) if each.level != "ok"]
    assert [each.check for each in found] == ["neighbours", "neighbours"]
    assert str(tmp_path) in found[0].message and "deep/inner/" in found[1].message


async def test_a_file_and_a_file_system_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert await bad(tmp_path / "file/objects") == [("directory", "error")]
    monkeypatch.setattr("tiering.doctor.directory.SPACE_BYTES_MIN", 1 << 62)
    assert await bad(tmp_path) == [("space", "warning")]


async def test_classes_and_leftovers(tmp_path: Path) -> None:
    assert await bad(tmp_path, Wanted(classes=[StorageClass.COLD])) == [("classes", "error")]
    (tmp_path / ".tmp").mkdir()
    left = tmp_path / ".tmp/left"
    left.write_text("half")
    assert await bad(tmp_path) == []
    old_s = time.time() - 2 * 86_400
    os.utime(left, (old_s, old_s))
    assert await bad(tmp_path) == [("leftovers", "warning")]
    with left.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert await bad(tmp_path) == [], "a live writer has it"


async def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Root may write into any directory but those of /proc."""
    tmp_path.chmod(0o555)
    where = Path("/proc/sys") if os.geteuid() == 0 else tmp_path
    found = [each for each in await examine(where, Wanted()) if each.level != "ok"]
    tmp_path.chmod(0o755)
    assert [(each.check, each.level) for each in found] == [("permissions", "error")]
    assert "root_squash" in found[0].remedy


async def test_locks_that_nobody_else_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with nolock: the other process gets the lock, too."""
    monkeypatch.setattr("tiering.doctor.directory._TRY_LOCK", "")
    found = [each for each in await examine(tmp_path, Wanted()) if each.level != "ok"]
    assert [(each.check, each.level) for each in found] == [("file system", "error")]
    assert "does not show its locks" in found[0].message and "nolock" in found[0].remedy
    assert list(tmp_path.iterdir()) == []


MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
tmpfs /run tmpfs rw 0 0
server:/a /mnt/good nfs4 rw,relatime,vers=4.2,hard,local_lock=none 0 0
server:/b /mnt/soft nfs4 rw,vers=4.2,soft,local_lock=none 0 0
server:/c /mnt/alone nfs rw,vers=3,hard,nolock,local_lock=all 0 0
server:/d /mnt/with\\040space nfs rw,vers=3,softerr 0 0
"""


@pytest.mark.parametrize(
    ("path", "level", "words"),
    [
        ("/var/lib/objects", "ok", "ext4, of this machine alone"),
        ("/run/objects", "warning", "gone after a restart"),
        ("/mnt/good", "ok", "nfs4, hard"),
        ("/mnt/good/objects", "ok", "nfs4, hard"),
        ("/mnt/goodness", "ok", "ext4"),
        ("/mnt/soft/objects", "error", "a slow server makes writes fail halfway"),
        ("/mnt/alone", "error", "local_lock=all, nolock"),
        ("/mnt/with space/x", "error", "soft"),
    ],
)
def test_what_a_mount_means(path: str, level: str, words: str) -> None:
    (found,) = mount_findings(MOUNTS, path)
    assert (found.check, found.level) == ("mount", level)
    assert words in found.message
    assert bool(found.remedy) == (level != "ok")


def test_what_is_around_a_prefix() -> None:
    assert (outer_prefixes(""), outer_prefixes("a"), outer_prefixes("a/b/c")) == ([], [""], ["", "a", "a/b"])
    assert Finding("check", "error", "wrong", "mend it").line == "wrong; mend it"


async def test_the_search_for_other_clusters_ends(tmp_path: Path) -> None:
    for number in range(2 * LOOKS_MAX):
        (tmp_path / f"folder-{number:03}").mkdir()
        (tmp_path / f"folder-{number:03}/object").write_text("")
    (found,) = [each for each in await examine(tmp_path, Wanted()) if each.check == "neighbours"]
    assert (found.level, found.message) == (
        "ok",
        f"no other cluster around or below in the first {LOOKS_MAX} folders",
    )
