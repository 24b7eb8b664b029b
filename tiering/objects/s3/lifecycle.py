"""Finds what a bucket's lifecycle rules would do to the tier's objects. Pure.

The tier's objects carry no tags, so a rule that requires one never touches them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiering.objects.findings import Finding

_OFFLINE = frozenset({"GLACIER", "DEEP_ARCHIVE"})  # Not readable without a restore request that takes hours.


def lifecycle_findings(rules: Sequence[Mapping[str, Any]], prefix: str) -> list[Finding]:
    """Problems of the rules (in S3's own structure) for objects below ``prefix``."""
    found: list[Finding] = []
    for rule in rules:
        if rule.get("Status") != "Enabled" or not touches(rule, prefix):
            continue
        name = rule.get("ID") or "without a name"
        remedy = f"limit the rule {name} to a prefix that is not ours, or take it away"
        expiration = rule.get("Expiration", {})
        if "Days" in expiration or "Date" in expiration:
            message = f"the lifecycle rule {name} deletes our objects by age"
            found.append(Finding("lifecycle", "error", message, remedy))
        for move in rule.get("Transitions", []):
            to = move.get("StorageClass")
            if to in _OFFLINE:
                message = f"the lifecycle rule {name} moves our objects to {to}, where reads fail"
                found.append(Finding("lifecycle", "error", message, remedy))
    return found


def touches(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether any object below ``prefix`` could match the rule's filter."""
    criteria = rule.get("Filter") or {}
    both = criteria.get("And") or {}
    if criteria.get("Tag") or both.get("Tags"):
        return False
    wanted = str(rule.get("Prefix") or criteria.get("Prefix") or both.get("Prefix") or "")
    return wanted.startswith(prefix) or prefix.startswith(wanted)
