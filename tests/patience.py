"""How long tests wait for what must come.

A deadline only ends a test that has failed already, so it is one for a machine busy with ten other things. What a test
measures is another matter: such a bar is multiplied by ``slowness``.
"""

from __future__ import annotations

import os

PATIENT_S = 120.0


def slowness() -> float:
    """How many runnable threads share a core, 1 or more: a bar that holds on an idle machine takes so many times as long."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
