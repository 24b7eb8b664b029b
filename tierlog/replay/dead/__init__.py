"""Where a replay puts records whose values cannot be decoded: lines of JSON, Parquet, or a topic. Doing, and blocking.

Each is there once where the sink has each record once: they are durable before the sink is, and a replay that is resumed
takes away, or leaves out, what belongs to records that the sink has not got. May touch sinks and brokers. Begin at ``port``.
"""
