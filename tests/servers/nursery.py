"""A process that has imported tierlog and is forked for each broker of a test run.

Imports are most of what the start of a broker costs (some 0.8 of 1.0 s), and a test run starts hundreds. What is forked
runs the same ``main`` with the same arguments, environment, directory and output as ``python -m tierlog``, and ends by
itself. The process serves one client on the socket whose number is its argument: a message that says what to start, with
the file of its output, is answered with the pid; a pid is answered with the exit status, or null while it runs. It ends
with the socket.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys

MAX_MESSAGE_BYTES = 128 * 1024


# What a broker imports; nothing that starts a thread as it is imported, for a fork would not have it.
MODULES = (
    "uvloop",
    "uvicorn",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.h11_impl",
    "starlette.applications",
    "pydantic.fields",
    "pydantic.type_adapter",
    "tiering.manifest",
    "tiering.objects.directory",
    "tiering.objects.opening",
    "tierlog.broker.node",
    "tierlog.broker.offload.service",
    "tierlog.cli.app",
    "tierlog.cli.broker",
    "tierlog.metadata.stores.sqlite",
)


def load() -> None:
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(client: socket.socket) -> None:
    """Returns in a child that has become a broker; the process itself ends here."""
    while True:
        message, files, _, _ = socket.recv_fds(client, MAX_MESSAGE_BYTES, 1)
        if not message:
            os._exit(0)
        asked = json.loads(message)
        if isinstance(asked, int):
            pid, status = os.waitpid(asked, os.WNOHANG)
            answer = None if pid == 0 else os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                client.close()
                become(asked["arguments"], asked["environment"], asked["directory"], files[0])
                return
            os.close(files[0])
        client.send(json.dumps(answer).encode())


def become(arguments: list[str], environment: dict[str, str], directory: str, output: int) -> None:
    from tests.servers.parents import die_with_parent

    die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.close(output)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["tierlog", *arguments]


if __name__ == "__main__":
    import tierlog.__main__

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
    tierlog.__main__.main()
