"""How a partition changes when replicas leave or join the ISR: one pure function for leader and controller
(KIP-966).

``|ISR'| >= min_isr``: no replica outside the ISR is needed, ELR' = ∅. Otherwise the replicas that left stay eligible,
since nothing can be committed until the ISR is full again: ELR' = (ELR ∪ ISR) − ISR' − lossy. A replica that is left out
only because it may have lost data is kept in ``last_eligible`` for as long as it would have been in the ELR.
"""

from __future__ import annotations

from collections.abc import Collection

from tierlog.metadata.records import PartitionState


def with_isr(state: PartitionState, isr: Collection[int], lossy: Collection[int] = ()) -> PartitionState:
    """``state`` with the new in-sync replicas (in assignment order) and the ELR that follows.

    ``lossy``: replicas that may have lost data; they lose their eligibility until they prove that they have not.
    """
    new_isr = tuple(r for r in state.replicas if r in isr)
    if len(new_isr) >= state.min_isr:
        return state._replace(isr=new_isr, elr=(), last_eligible=())
    left = [r for r in state.replicas if (r in state.elr or r in state.isr) and r not in new_isr]
    return state._replace(
        isr=new_isr,
        elr=tuple(r for r in left if r not in lossy),
        last_eligible=tuple(
            r
            for r in state.replicas
            if (r in state.last_eligible and r not in new_isr) or (r in left and r in lossy)
        ),
    )
