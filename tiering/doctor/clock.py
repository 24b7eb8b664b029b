"""How far this machine's clock is from a server's. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from tiering.objects.findings import Finding, Level

SKEW_WARNING_MS = 60_000
SKEW_ERROR_MS = 900_000  # S3 refuses signatures beyond 15 minutes, Google tokens beyond five.


def skew_findings(now_ms: int, date: str | None) -> list[Finding]:
    """``date``: of an answer, as HTTP writes it; none where it has none."""
    if not date:
        return []
    return [skew_finding(now_ms, int(parsedate_to_datetime(date).timestamp() * 1_000))]


def skew_finding(now_ms: int, server_ms: int) -> Finding:
    """``server_ms``: the time there, to the second."""
    skew_ms = abs(now_ms - server_ms)
    if skew_ms < SKEW_WARNING_MS:
        return Finding("clock", "ok", f"{skew_ms / 1_000:.0f} s from the server's")
    level: Level = "warning" if skew_ms < SKEW_ERROR_MS else "error"
    message = f"this machine's clock is {skew_ms / 1_000:.0f} s from the server's"
    return Finding("clock", level, f"{message}: beyond some minutes requests are refused", "set it by NTP")
