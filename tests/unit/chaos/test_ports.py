"""Two tests never get the same port, whichever process runs them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.servers import ports

SPAN = 60
ALL_OF_A_SPAN = """
import sys
from tests.servers import ports

ports.FIRST_PORT, ports.LAST_PORT = (int(each) for each in sys.argv[1:])
print([port for port in range(ports.FIRST_PORT, ports.LAST_PORT) if ports._hold(port)], flush=True)
sys.stdin.read()
"""


def holder(first: int) -> subprocess.Popen[str]:
    """Another test process that holds what it can of a span of ports, until its input ends."""
    command = [sys.executable, "-c", ALL_OF_A_SPAN, str(first), str(first + SPAN)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def taken(process: subprocess.Popen[str]) -> set[int]:
    assert process.stdout is not None
    return set(eval(process.stdout.readline()))


def test_what_one_process_holds_no_other_gets_until_it_ends() -> None:
    mine = ports.ports_in_a_row(20)
    first = mine - 20
    with holder(first) as other:
        others = taken(other)
        assert not others & set(range(mine, mine + 20))
        assert len(others) >= 10, "it holds what was free"
        with holder(first) as third:
            assert not taken(third) & others
            third.communicate()
        other.communicate()
    with holder(first) as later:
        assert len(taken(later) & others) >= len(others) - 3, "held by a process that has ended"
        later.communicate()


def test_a_port_is_given_once_by_a_process_too() -> None:
    given = ports.free_ports(200)
    assert len(set(given)) == 200
    assert not any(ports._hold(port) for port in given)


def test_a_process_that_is_forked_and_ends_drops_nothing() -> None:
    (port,) = ports.free_ports(1)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with holder(port) as other:
        assert port not in taken(other)
        other.communicate()
