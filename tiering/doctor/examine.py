"""Looks at whatever a URL of an object store names, and imports only what that takes."""

from __future__ import annotations

import time
from pathlib import Path

from tiering.doctor.wanted import Wanted
from tiering.errors import Misconfigured, ObjectStoreError
from tiering.metering.accounts import Accounts
from tiering.metering.meter import Meter
from tiering.objects.findings import Finding, finding_of
from tiering.objects.opening import StoreAddress, gcs_config, parse_address, s3_config


async def examine(url: str, wanted: Wanted, accounts: Accounts | None = None) -> list[Finding]:
    """All findings, in the order of the checks. Nothing that was written for it stays. ``accounts``: where the requests to a
    bucket are counted."""
    try:
        return await _examined(parse_address(url), wanted, accounts or Accounts())
    except Misconfigured as error:
        return [Finding("url", "error", str(error), "correct tierlog.object.store")]
    except ObjectStoreError as error:
        return [finding_of(error)]


async def _examined(address: StoreAddress, wanted: Wanted, accounts: Accounts) -> list[Finding]:
    if address.scheme == "s3":
        from tiering.doctor.apart import examine_apart

        return await examine_apart(s3_config(address), wanted, accounts)
    if address.scheme == "gs":
        return await _examined_gcs(address, wanted, accounts)
    if address.scheme == "memory":
        message = "the store is this process's memory: what is tiered is gone with it"
        return [Finding("url", "warning", message, "name a bucket or a directory")]
    from tiering.doctor.directory import examine as examine_directory

    return await examine_directory(Path(address.path), wanted)


async def _examined_gcs(address: StoreAddress, wanted: Wanted, accounts: Accounts) -> list[Finding]:
    config = gcs_config(address)
    try:
        from tiering.doctor.gcs import examine as examine_gcs
    except ImportError as error:
        message = f"the client of Google's is not installed: {error}"
        return [Finding("url", "error", message, "pip install 'tierlog[gcs]'")]
    return await examine_gcs(config, wanted, int(time.time() * 1_000), Meter(accounts))
