"""The kernel against its twin, and its choosing."""
