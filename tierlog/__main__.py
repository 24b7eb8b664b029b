"""The command ``tierlog``. Assertions are part of the design, so running without them is refused."""

from __future__ import annotations

import sys


def main() -> None:
    if not __debug__:
        sys.exit(
            "tierlog: assertions are switched off (-O or PYTHONOPTIMIZE); they guard your data: switch them on"
        )
    from tierlog.cli.app import run

    run()


if __name__ == "__main__":
    main()
