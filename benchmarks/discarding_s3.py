"""An S3 that takes whatever is uploaded and keeps only sizes: what an upload costs its client, and nobody else.

    python -m benchmarks.discarding_s3

Tells its port on standard output, and ends with its parent.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

BUFFER_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1
_sizes: dict[str, int] = {}


class Discarding(NamedTuple):
    url: str
    pid: int


@contextmanager
def discarding_s3() -> Iterator[Discarding]:
    """In a process of its own."""
    with subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            yield Discarding(f"s3://bucket/objects?endpoint=http://127.0.0.1:{port}", server.pid)
        finally:
            server.kill()


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        path, _, query = self.path.partition("?")
        size_bytes = self._take()
        _sizes[path] = (_sizes.get(path, 0) if query else 0) + size_bytes
        self._answer(b"")

    def do_POST(self) -> None:
        self._take()
        if "uploads" in self.path:
            self._answer(
                b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            )
        else:
            self._answer(b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")

    def do_HEAD(self) -> None:
        self._answer(b"", _sizes[self.path])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def _take(self) -> int:
        size_bytes = left = int(self.headers["Content-Length"])
        buffer = memoryview(bytearray(min(left, BUFFER_BYTES)))
        while left:
            left -= self.rfile.readinto(buffer[:left])  # type: ignore[attr-defined]
        return size_bytes

    def _answer(self, body: bytes, size_bytes: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if size_bytes is None else size_bytes))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", self.date_time_string())
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Requests)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
