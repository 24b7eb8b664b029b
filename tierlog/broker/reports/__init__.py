"""What the controller is told of this broker: log ends, failed directories, offline replicas, deleted topics, cordons.

Each module looks at one thing, and tells it until the controller has it. Begin at ``log_ends``.
"""
