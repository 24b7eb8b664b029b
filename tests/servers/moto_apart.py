"""moto's server, as ``python -m tests.servers.moto_apart``; its IAM takes one more request for what AWS takes it."""

from __future__ import annotations

from moto.s3.responses import ACTION_MAP
from moto.server import main

# moto asks for s3:ListBucket here.
ACTION_MAP["BUCKET"]["GET"]["object-lock"] = "GetBucketObjectLockConfiguration"  # type: ignore[index]

if __name__ == "__main__":
    main()
