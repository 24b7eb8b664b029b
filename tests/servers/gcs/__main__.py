"""The server as a process of its own: ``python -m tests.servers.gcs PORT``, with one bucket."""

from __future__ import annotations

import sys

import uvicorn

from tests.servers.gcs.app import application
from tests.servers.gcs.serving import BUCKET
from tests.servers.gcs.state import State

if __name__ == "__main__":
    state = State()
    state.make_bucket(BUCKET, softDeletePolicy={"retentionDurationSeconds": "0"})
    uvicorn.run(
        application(state), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", lifespan="off"
    )
