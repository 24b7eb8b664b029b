"""SQL over topics (DuckDB): topics are tables, read from bucket and brokers by ``tierlog.replay``.

It may touch: ``tierlog.replay``, DuckDB and pyarrow; no broker imports this room. Begin at ``connection``; ``pruning`` says
which part of a topic a statement can see, from DuckDB's own parse of it.
"""

from tierlog.sql.connection import connect

__all__ = ["connect"]
