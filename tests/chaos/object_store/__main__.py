"""``python -m tests.chaos.object_store``: faults of the object store, as many as asked for; 1 if anything is amiss."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.object_store.campaign import Campaign, say
from tests.chaos.object_store.stores import NAMES, store_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=NAMES, default=NAMES[0])
    parser.add_argument("--data", type=Path, help="keep everything there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierlog-chaos-") as temporary:
        directory = arguments.data or Path(temporary)
        began_s = time.monotonic()
        with (
            store_of(arguments.store, directory) as store,
            Campaign(directory, store, arguments.seed) as campaign,
        ):
            campaign.run(arguments.faults)
            counts = ", ".join(f"{name} {count}" for name, count in sorted(campaign.counts.items()))
            say(f"{arguments.store}, seed {arguments.seed}: {counts}; {time.monotonic() - began_s:.0f} s")
            for violation in campaign.violations[:100]:
                say(f"VIOLATION {violation}")
            say(f"{len(campaign.violations)} violations")
            return 1 if campaign.violations else 0


if __name__ == "__main__":
    sys.exit(main())
