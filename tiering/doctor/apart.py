"""The look at a bucket of S3 in a process of its own: a broker neither loads aioboto3 nor waits for it.

Run as ``python -m tiering.doctor.apart``: the configuration and what is wanted as JSON on standard input (secrets are in no
argument), the findings as JSON on standard output, and the requests that were made for them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict

from tiering.doctor.wanted import Wanted
from tiering.errors import Unavailable
from tiering.ledger.rows import Cause
from tiering.metering.accounts import Accounts
from tiering.metering.attribution import attributed
from tiering.metering.meter import Meter
from tiering.objects.classes import StorageClass
from tiering.objects.findings import Finding
from tiering.objects.s3.config import S3Config

TIMEOUT_S = 120.0


async def examine_apart(config: S3Config, wanted: Wanted, accounts: Accounts) -> list[Finding]:
    """As ``s3.examine``. Raises ``Unavailable`` when the process failed or took too long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tiering.doctor.apart",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    given = json.dumps({"config": asdict(config), "wanted": asdict(wanted)}).encode()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, errors = await process.communicate(given)
    except TimeoutError:
        raise Unavailable(f"the look at the bucket took more than {TIMEOUT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"the look at the bucket failed: {lines[-1] if lines else process.returncode}")
    told = json.loads(out)
    accounts.hear(told["accounts"])
    return [Finding(**row) for row in told["findings"]]


def main() -> None:
    from tiering.doctor.s3 import examine

    given = json.load(sys.stdin)
    classes = [StorageClass(each) for each in given["wanted"].pop("classes")]
    wanted = Wanted(**given["wanted"], classes=classes)
    accounts = Accounts()
    with attributed(Cause.START):
        now_ms = int(time.time() * 1000)
        findings = asyncio.run(examine(S3Config(**given["config"]), wanted, now_ms, Meter(accounts)))
    told = {"findings": [asdict(finding) for finding in findings], "accounts": accounts.tell()}
    sys.stdout.write(json.dumps(told))
    sys.stdout.flush()
    # All is told. Threads of the store's client may still run; the interpreter's end is not awaited with them.
    os._exit(0)


if __name__ == "__main__":
    main()
