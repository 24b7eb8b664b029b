"""The preflight in a process of its own: a broker neither loads aioboto3 nor waits for it.

Run as ``python -m tiering.objects.s3.preflight_process``: the configuration as JSON on standard input (secrets
are in no argument), the findings as JSON on standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict

from tiering.errors import Unavailable
from tiering.objects.findings import Finding
from tiering.objects.s3.config import S3Config

TIMEOUT_S = 60.0


async def preflight_apart(config: S3Config) -> list[Finding]:
    """As ``preflight.preflight``. Raises ``Unavailable`` when the process failed or took too long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tiering.objects.s3.preflight_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, errors = await process.communicate(json.dumps(asdict(config)).encode())
    except TimeoutError:
        raise Unavailable(f"the preflight took more than {TIMEOUT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"the preflight failed: {lines[-1] if lines else process.returncode}")
    return [Finding(**row) for row in json.loads(out)]


def main() -> None:
    from tiering.objects.s3.preflight import preflight

    config = S3Config(**json.load(sys.stdin))
    findings = asyncio.run(preflight(config, int(time.time() * 1000)))
    sys.stdout.write(json.dumps([asdict(finding) for finding in findings]))


if __name__ == "__main__":
    main()
