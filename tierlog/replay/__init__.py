"""Long ranges of topics, straight from the bucket, as Arrow or into a sink; what is local only comes from the brokers.

A program of its own beside the cluster: no broker imports this room, which may use numpy and pyarrow. Begin at ``stream``
(the Python API), ``plan`` (what is read), ``reading`` (how), ``decode`` (bytes to columns), ``values`` (their contents too).
"""

from tierlog.replay.stream import open, stream
from tierlog.replay.values.formats import Avro, Json, Protobuf

__all__ = ["Avro", "Json", "Protobuf", "open", "stream"]
