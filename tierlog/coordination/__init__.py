"""[P] Consumer groups and their offsets as event-sourced shards: decide, append, replay.

One ``GroupShard`` per ``__consumer_offsets`` partition led here; ``broker.groups.shard_runtime`` drives it. A
``decide_*`` never changes hard state: it returns the records that do. ``replay`` is the only writer of hard
state and never refuses. Soft state (sessions, parked joins, rebalance timers) is lost with the shard and
rebuilt from the clients' requests.
"""
