"""What happens to a partition when replicas leave or join the ISR: one pure function for leader and
controller (KIP-966).

``|ISR'| >= min_isr``: nobody outside the ISR is needed, ELR' = ∅. Otherwise those who left stay eligible,
since nothing can be committed until the ISR is full again: ELR' = (ELR ∪ ISR) − ISR' − lossy.
"""

from __future__ import annotations

from collections.abc import Collection

from tierlog.metadata.records import PartitionState


def with_isr(state: PartitionState, isr: Collection[int], lossy: Collection[int] = ()) -> PartitionState:
    """``state`` with the new in-sync replicas (in assignment order) and the ELR that follows.

    ``lossy``: replicas that may have lost data and therefore lose their eligibility.
    """
    new_isr = tuple(r for r in state.replicas if r in isr)
    if len(new_isr) >= state.min_isr:
        elr: tuple[int, ...] = ()
    else:
        elr = tuple(
            r
            for r in state.replicas
            if (r in state.elr or r in state.isr) and r not in new_isr and r not in lossy
        )
    return state._replace(isr=new_isr, elr=elr)
