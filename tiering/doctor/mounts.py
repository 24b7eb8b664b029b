"""What the options of a mount mean for a directory of objects. Pure."""

from __future__ import annotations

from tiering.objects.findings import Finding

_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "virtiofs")
_LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=flock"}


def mount_findings(mounts: str, path: str) -> list[Finding]:
    """``mounts``: as in ``/proc/mounts``; ``path``: absolute, without links. Nothing is said of what is not known."""
    found = _mount_of(mounts, path)
    if found is None:
        return []
    point, kind, options = found
    if kind in ("tmpfs", "ramfs"):
        message = f"{point} is {kind}, in this machine's memory: what is tiered is gone after a restart"
        return [Finding("mount", "warning", message, "take a directory on a disk, or of a file server")]
    if kind not in _NETWORK:
        return [Finding("mount", "ok", f"{kind}, of this machine alone")]
    if _LOCAL_LOCKS & options:
        which = ", ".join(sorted(_LOCAL_LOCKS & options))
        message = f"{point} is mounted with {which}: brokers of other machines do not see its locks"
        return [
            Finding(
                "mount", "error", message, f"mount it without {which}, and let the server's lock service run"
            )
        ]
    if "soft" in options or "softerr" in options:
        message = f"{point} is mounted soft: a slow server makes writes fail halfway"
        return [Finding("mount", "error", message, "mount it hard")]
    return [Finding("mount", "ok", f"{kind}, hard, with the server's locks")]


def _mount_of(mounts: str, path: str) -> tuple[str, str, set[str]] | None:
    """Mount point, type and options of the last mount of the longest point above the path."""
    best: tuple[str, str, set[str]] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        point = fields[1].replace("\\040", " ")
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and (best is None or len(point) >= len(best[0])):
            best = (point, fields[2], set(fields[3].split(",")))
    return best
