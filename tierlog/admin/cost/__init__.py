"""Bills, what-ifs and capacity as plain values: the ledger's rows are gathered, ``tiering`` decides.

It may touch: files that the user names, the cluster over the protocol and HTTP, and ``tiering``'s pure rooms. pyarrow is
imported inside functions only. Begin at ``report``; ``rows`` says where rows come from.
"""
