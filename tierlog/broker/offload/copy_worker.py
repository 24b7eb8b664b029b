"""``python -m tierlog.broker.offload.copy_worker``: ``tiering``'s copy worker, with the kernel's scan if there is one."""

from __future__ import annotations

from tiering.copying.worker.__main__ import main
from tierlog import kernel

if __name__ == "__main__":
    main(kernel.walk_segment)
