"""Finds what a bucket's settings do to the tier's objects: lifecycle rules, retention, versions, soft delete. Pure.

The settings are a bucket's resource in Google's own structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiering.objects.findings import Finding

_DAY_S = 86_400
# Objects of ours have no custom time; the others speak of versions that are no longer live.
_OUR_ENDS = (".seg", ".json", ".page", ".index")
_NEVER_OURS = (
    *("customTimeBefore", "daysSinceCustomTime"),
    *("numNewerVersions", "daysSinceNoncurrentTime", "noncurrentTimeBefore"),
)


def settings_findings(resource: Mapping[str, Any], prefix: str) -> list[Finding]:
    """One finding per setting, in a fixed order; of the lifecycle one per rule that touches objects below ``prefix``."""
    return [
        *_lifecycle(resource, prefix),
        _versioning(resource),
        _soft_delete(resource),
        _retention(resource),
        *_class_of_its_own(resource),
    ]


def _lifecycle(resource: Mapping[str, Any], prefix: str) -> list[Finding]:
    rules = resource.get("lifecycle", {}).get("rule", [])
    found = list(_touching(rules, prefix))
    if found:
        return found
    return [Finding("lifecycle", "ok", "no rule touches our objects" if rules else "no rules")]


def _touching(rules: list[Mapping[str, Any]], prefix: str) -> Iterator[Finding]:
    for number, rule in enumerate(rules, 1):
        kind, condition = rule.get("action", {}).get("type"), rule.get("condition", {})
        if not touches(condition, prefix):
            continue
        if kind == "Delete":
            message = f"the lifecycle rule {number} deletes our objects"
            remedy = f"limit the rule {number} to a prefix that is not ours (matchesPrefix), or take it away"
            yield Finding("lifecycle", "error", message, remedy)
        elif kind == "SetStorageClass":
            to = rule["action"].get("storageClass", "another class")
            message = f"the lifecycle rule {number} moves our objects to {to}, and bills their early moves"
            yield Finding("lifecycle", "warning", message, "take it away, and set tierlog.tiers instead")


def touches(condition: Mapping[str, Any], prefix: str) -> bool:
    """Whether a live object below ``prefix`` could meet the condition; all parts of a condition must hold."""
    if condition.get("isLive") is False or any(name in condition for name in _NEVER_OURS):
        return False
    starts, ends = condition.get("matchesPrefix"), condition.get("matchesSuffix")
    if starts and not any(each.startswith(prefix) or prefix.startswith(each) for each in starts):
        return False
    return not ends or any(_may_be_ours(each) for each in ends)


def _may_be_ours(end: str) -> bool:
    """Whether a key of ours may end so; some have no dot at all."""
    return "." not in end or any(own.endswith(end) or end.endswith(own) for own in _OUR_ENDS)


def _versioning(resource: Mapping[str, Any]) -> Finding:
    if not _is_versioned(resource):
        return Finding("versioning", "ok", "off")
    message = (
        "versioning is on: what retention deletes stays and is paid for, and tierlog.tiers moves nothing"
    )
    remedy = "switch it off, or have a lifecycle rule delete noncurrent versions (daysSinceNoncurrentTime)"
    return Finding("versioning", "warning", message, remedy)


def _soft_delete(resource: Mapping[str, Any]) -> Finding:
    kept_s = int(resource.get("softDeletePolicy", {}).get("retentionDurationSeconds") or 0)
    if not kept_s:
        return Finding("soft delete", "ok", "off")
    message = (
        f"soft delete is on: what retention deletes, and each change of class, stays and is paid for "
        f"{kept_s / _DAY_S:.0f} more days"
    )
    remedy = f"gcloud storage buckets update gs://{resource.get('name', 'BUCKET')} --clear-soft-delete, or count it in"
    return Finding("soft delete", "warning", message, remedy)


def _retention(resource: Mapping[str, Any]) -> Finding:
    kept_s = int(resource.get("retentionPolicy", {}).get("retentionPeriod") or 0)
    if kept_s:
        message = (
            f"a retention policy of {kept_s / _DAY_S:.1f} days refuses deletes and overwrites: metadata cannot be "
            "replaced"
        )
        return Finding("retention policy", "error", message, "take a bucket without one")
    if resource.get("defaultEventBasedHold"):
        message = "new objects get a hold, and cannot be deleted"
        return Finding("retention policy", "error", message, "switch the default event-based hold off")
    return Finding("retention policy", "ok", "none")


def _class_of_its_own(resource: Mapping[str, Any]) -> list[Finding]:
    if not resource.get("autoclass", {}).get("enabled"):
        return []
    message = "Autoclass is on: Google chooses the classes, and those that are asked for have no effect"
    return [Finding("autoclass", "warning", message, "switch it off if tierlog.tiers is to choose them")]


def kept_versions(resource: Mapping[str, Any]) -> str | None:
    """Why what is overwritten or deleted stays in the bucket; None if it goes. Soft delete keeps it too, but for days: the
    price of a move, not a reason against all."""
    bucket = resource.get("name", "")
    if _is_versioned(resource):
        return f"versioning of bucket {bucket} is on"
    kept_s = int(resource.get("retentionPolicy", {}).get("retentionPeriod") or 0)
    return f"bucket {bucket} has a retention policy of {kept_s} s" if kept_s else None


def _is_versioned(resource: Mapping[str, Any]) -> bool:
    return bool(resource.get("versioning", {}).get("enabled"))
